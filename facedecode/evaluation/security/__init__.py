"""`evaluate security`: how invertible templates are."""
