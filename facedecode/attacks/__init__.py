"""Adversarial attacks: what is wanted (`goals`), how it is sought (`METHODS`), and how it is judged (`base.attack`).

`METHODS` and `Budget` say what there is without importing torch.
"""

from __future__ import annotations

from facedecode.attacks.methods import METHODS, Budget, Method, find_method

__all__ = ["METHODS", "Budget", "Method", "find_method"]
