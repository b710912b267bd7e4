"""`evaluate protection`: what a protection costs, and what it prevents."""
