"""What templates say of an attribute, and how it is taken out of them."""
