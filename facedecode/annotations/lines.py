"""The fields of LFW's files, line by line, remembering where they are so that errors can say so."""

from __future__ import annotations

import re

from facedecode.annotations.tables import TextFile
from facedecode.errors import BadInput
from facedecode.names import person_name


class Lines:
    """A text file's lines, one after the other. Fields are parted by tabs where a line has one, else by white space."""

    def __init__(self, file: TextFile) -> None:
        self.path, self.line = file.path, 0
        self._lines = dict(file.lines)
        self._last = max(self._lines)

    def peek(self) -> list[str]:
        """The fields of the next line; none at the end."""
        line = self._lines.get(self.line + 1, "")
        return [field.strip() for field in line.strip().split("\t")] if "\t" in line.strip() else line.split()

    def take(self, expected: str, *counts: int) -> list[str]:
        """The fields of the next line, as many as one of `counts`."""
        fields = self.peek()
        self.line += 1
        if not fields:
            what = "the file ends" if self.line > self._last else "the line is empty"
            raise self.wrong(f"{what} where {expected} was expected")
        if len(fields) not in counts:
            spaces = "; part the fields by tabs where names have spaces" if len(fields) > max(counts) > 1 else ""
            raise self.wrong(f"expected {expected}{spaces}")
        return fields

    def finish(self) -> None:
        """Refuse what follows, but for empty lines."""
        while self.line < self._last:
            rest = self.peek()
            self.line += 1
            if rest:
                raise self.wrong("more lines than the header announces")

    def number(self, field: str) -> int:
        """A positive whole number. Raises BadInput naming the line."""
        if not re.fullmatch(r"[0-9]{1,9}", field) or int(field) == 0:
            raise self.wrong(f"{field!r} is not a positive whole number")
        return int(field)

    def name(self, field: str) -> str:
        """A person's name. Raises BadInput naming the line."""
        # A name becomes part of a path, so it must stay below the folder of images.
        name = person_name(field)
        if name is None or "/" in field or "\\" in field or "\0" in field or name in (".", ".."):
            raise self.wrong(f"{field!r} is not a person's name")
        return name

    def wrong(self, what: str) -> BadInput:
        """The error of the line that was taken last."""
        return BadInput(f"{self.path}, line {self.line}: {what}.")
