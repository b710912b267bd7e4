"""Names from data (paths, people, recognizers, labels), made harmless for where they are shown or written.

A terminal, a report and a figure show them by `visible`; a table has them by `csv_cell`, and a folder by `file_names`.
HTML, Markdown and JSON have escapes of their own besides, where they are written.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

# Joiners, which Persian, Hindi and emoji need, show nothing that is not there.
_HARMLESS = frozenset("\u200c\u200d")


def visible(text: str, keep: str = "") -> str:
    """A text whose control characters are shown, not obeyed: \\x1b for an escape, \\u202e for a change of direction.

    Shown so are all that Unicode calls control, format, surrogate, private or unassigned characters, and the separators
    of lines and paragraphs; a line's end among them. keep: characters that stay.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in keep else _shown(each) for each in text)


def _shown(character: str) -> str:
    if character in _HARMLESS or unicodedata.category(character) == "Zs":
        return character
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


# A spreadsheet takes a cell that begins so for a formula, and runs it. Some part cells at other characters than a
# comma: what follows one of those may begin a cell, too.
_BEGINNING = r"(^(?={0}'*[\t\r\n])|(?:^|[;|\t\r\n][\s\"]*)(?={0}'*[=+\-@＝＋－＠]))"
_FORMULA = re.compile(_BEGINNING.format(""))
_GUARDED = re.compile(_BEGINNING.format("'") + "'")


def csv_cell(text: str) -> str:
    """A text for a cell of a table: an apostrophe goes before what a spreadsheet would run as a formula.

    What reads as a number (-0.5) stays. `from_csv_cell` takes the apostrophes away.
    """
    try:
        float(text)
    except ValueError:
        return _FORMULA.sub(r"\1'", text)
    return text


def from_csv_cell(cell: str) -> str:
    """The text that `csv_cell` made a cell of."""
    return _GUARDED.sub(r"\1", cell)


LONGEST_FILE_NAME = 255  # bytes of UTF-8
_UNSAFE = re.compile(r'[<>:"/\\|?*]|^\.')
_UNSAFE_END = re.compile(r"[. ]$")
# What Windows takes for a device, whatever follows a dot.
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?= *(?:\.|$))", re.IGNORECASE)


def file_name(text: str, suffix: str = "") -> str:
    """A name that every file system takes for a file or folder; the suffix is yet to come.

    Characters that are no part of a name somewhere become %XX, as in URLs. A name that is too long is cut, and ends in
    eight digits of its hash.

    text: a slash in it is no folder. suffix: the longest that will be put behind the name.
    """
    name = "".join(each if visible(each) == each else _percent(each) for each in text)
    name = _UNSAFE.sub(lambda found: _percent(found[0]), name)
    if not suffix:
        name = _UNSAFE_END.sub(lambda found: _percent(found[0]), name)
    if _DEVICE.match(name):
        name = _percent(name[0]) + name[1:]
    room = LONGEST_FILE_NAME - len(suffix.encode())
    if len(name.encode()) > room:
        ending = f"_{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
        name = name.encode()[: room - len(ending)].decode("utf-8", "ignore") + ending
    return name or "%"


def file_names(texts: Sequence[str | None], suffix: str = "") -> list[str]:
    """`file_name` of each; one that is missing or empty is its number, and those that would coincide get theirs."""
    names = [text or f"{i:05d}" for i, text in enumerate(texts)]
    while True:
        made = [file_name(name, suffix) for name in names]
        uses = Counter(map(_folded, made))
        if max(uses.values(), default=1) == 1:
            return made
        names = [
            name if uses[_folded(one)] == 1 else f"{name}_{i:05d}"
            for i, (name, one) in enumerate(zip(names, made, strict=True))
        ]


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


def _folded(name: str) -> str:
    """What a file system makes of a name that tells neither case nor the forms of Unicode apart."""
    return unicodedata.normalize("NFC", name).casefold()
