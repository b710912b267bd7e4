"""Stores → stores: clusters, aggregates, protected and otherwise changed templates."""
