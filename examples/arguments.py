"""What the scripts here share in reading their arguments."""


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse's `type`."""
    if (number := int(text)) < 1:
        raise ValueError
    return number
