"""The folder that an attack writes: what may be there, what becomes of it, and the records of an unfinished run.

adv/
  pictures/…/NAME.png   the attacked crops
  emb/                  the store of their templates
  attacks.csv           a row an image
  attacks.png           some of them to look at
  records/              of an unfinished run: what its shards' files do not tell
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from facedecode.errors import BadInput, OutputError, UsageError
from facedecode.files import make_folder, sha256_file, write_json
from facedecode.pictures.images import ImageRef
from facedecode.store.layout import MANIFEST, PROGRESS, has_marker, read_json


class AttackFolder:
    """The places in an attack's output folder.

    Raises (on making one):
        OutputError: the folder has other files and is no attack's.
        UsageError: it lies in a folder of inputs, or has inputs in it.
    """

    def __init__(self, folder: Path, inputs: Sequence[Path], refs: Sequence[ImageRef]) -> None:
        self.folder = folder
        self.pictures, self.store = folder / "pictures", folder / "emb"
        self.table, self.figure, self.records = folder / "attacks.csv", folder / "attacks.png", folder / "records"
        where = folder.resolve()
        for given in inputs:
            if given.is_dir() and where.is_relative_to(given.resolve()):
                raise UsageError(f"-o {folder}: lies in {given}, whose images are the inputs; name a folder outside it")
        if inside := [ref.path for ref in refs if ref.path.resolve().is_relative_to(where)]:
            raise UsageError(f"-o {folder}: {inside[0]} is in it, one of the images to attack; name another folder")
        self._refuse_foreign()

    def _refuse_foreign(self) -> None:
        if not self.folder.exists():
            return
        if not self.folder.is_dir():
            raise OutputError(f"{self.folder}: is there and is no folder; name another")
        visible = sorted(path.name for path in self.folder.iterdir() if not path.name.startswith("."))
        marker = next((name for name in (MANIFEST, PROGRESS) if has_marker(self.store, name)), None)
        ours = marker and "attack" in read_json(self.store / marker).get("settings", {})
        # A run that was killed before it had begun leaves an empty store.
        if not ours and (marker or set(visible) - {self.store.name}):
            raise OutputError(f"{self.folder} has files ({visible[0]} …) and is no output of 'attack'; name another")

    def clear(self) -> None:
        """Remove what an earlier attack left beside its store. Raises OutputError."""
        try:
            for folder in (self.pictures, self.records):
                if folder.is_dir():
                    shutil.rmtree(folder)
            for file in (self.table, self.figure):
                file.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"cannot clear {self.folder}: {error.strerror or error}") from error

    def write_record(self, number: int, record: dict[str, Any]) -> None:
        """Keep what a shard's files do not tell, until the table is written."""
        make_folder(self.records)
        write_json(self.records / f"{number:05d}.json", record)

    def read_records(self, fingerprint: str, inputs_done: int) -> list[dict[str, Any]]:
        """The records of the shards that are done, whose last one had used up `inputs_done` inputs.

        Raises:
            BadInput: a record is missing or another run's, or a picture of it is missing or was changed.
        """
        records: list[dict[str, Any]] = []
        while (records[-1]["inputs_done"] if records else 0) < inputs_done:
            path = self.records / f"{len(records):05d}.json"
            record = read_json(path)
            if record.get("fingerprint") != fingerprint:
                raise BadInput(f"{path}: of another run; use --overwrite")
            for row in record["rows"]:
                self.require_picture(row["picture"], row["sha256"])
            records.append(record)
        return records

    def require_picture(self, name: str, sha256: str) -> None:
        """Refuse to build on a picture that is not as it was written. Raises BadInput."""
        path = self.pictures / name
        if not path.is_file() or sha256_file(path) != sha256:
            raise BadInput(f"{path}: missing, or changed since the attack wrote it; use --overwrite")

    def forget_records(self) -> None:
        """Remove the records: the table is written, and the store is finished."""
        if self.records.is_dir():
            shutil.rmtree(self.records)


def picture_names(refs: Sequence[ImageRef]) -> list[str]:
    """A PNG's path for each input, relative to the pictures' folder: the input's own with the suffix .png.

    Inputs that would share one (a.jpg and a.png; some file systems do not tell case) keep their old suffix, too.
    """
    names = [PurePosixPath(ref.relative).with_suffix(".png").as_posix() for ref in refs]
    folders = {str(part).casefold() for ref in refs for part in PurePosixPath(ref.relative).parents}
    longer = [f"{ref.relative}.png" for ref in refs]
    numbered = [f"{ref.relative}.{i}.png" for i, ref in enumerate(refs)]
    for other in (longer, numbered):
        seen = Counter(name.casefold() for name in names)
        names = [
            new if seen[name.casefold()] > 1 or name.casefold() in folders else name
            for name, new in zip(names, other, strict=True)
        ]
    return names
