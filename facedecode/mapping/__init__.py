"""Maps of templates that undo a perturbation."""
