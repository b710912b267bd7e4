"""`evaluate verification`: error rates of a recognizer."""
