"""`evaluate equivariance`: how linear a recognizer's space is."""
