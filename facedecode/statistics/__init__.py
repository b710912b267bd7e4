"""Scores of templates, error rates, and intervals by person."""
