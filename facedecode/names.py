"""Names of people and images, as files, folders and tables have them, in the one form in which they are compared."""

from __future__ import annotations

import unicodedata


def person_name(text: str | None) -> str | None:
    """The name of a person: composed Unicode (NFC) without white space at its ends; None where nothing is left.

    macOS writes the same letters decomposed, and a table from elsewhere composed: they are one person.
    """
    return unicodedata.normalize("NFC", text).strip() or None if text else None


def image_name(text: str) -> str:
    """The path of an image as tables name it: forward slashes, composed Unicode (NFC), no './' and no doubled slash."""
    text = unicodedata.normalize("NFC", text.strip()).replace("\\", "/")
    root = "/" if text.startswith("/") else ""
    return root + "/".join(part for part in text.split("/") if part not in ("", "."))
