"""Pictures: reading and writing them, the faces in them, and what is done to them."""
