"""Templates → pictures, with scores, refinement, confidence maps and walks."""
