"""`evaluate aggregation`: templates made of several images."""
