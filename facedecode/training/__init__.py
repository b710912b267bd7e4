"""Decoders and recognizers that are trained."""
