"""Images → stores of templates."""
