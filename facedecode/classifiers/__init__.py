"""Whose template is it? Softmax layers over known people."""
