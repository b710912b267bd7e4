"""`evaluate leakage`: what a template gives away."""
