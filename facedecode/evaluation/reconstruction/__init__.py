"""`evaluate reconstruction`: what decoders' pictures are worth."""
