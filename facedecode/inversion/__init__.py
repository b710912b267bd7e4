"""Templates → pictures, and what can be said of these."""
