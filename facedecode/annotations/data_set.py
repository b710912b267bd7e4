"""The people and the labels of a data set that keeps its images in one flat folder."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace
from pathlib import Path

from facedecode.annotations.label_file import Matched, by_name, match, read_label_file, read_renamed
from facedecode.errors import BadInput
from facedecode.pictures.images import ImageRef


@dataclass(frozen=True)
class DataSet:
    """Where a data set says who and what its images show.

    Attributes:
        identities: file with the person of each image.
        labels: file with further columns by image.
        renamed: CelebA-HQ's mapping file, where the others name CelebA's images.
    """

    identities: Path | None = None
    labels: Path | None = None
    renamed: Path | None = None

    def with_identities(self, refs: list[ImageRef]) -> tuple[list[ImageRef], list[str]]:
        """The images with their people, and lines on what is left over; an image without one is nobody's.

        Raises:
            BadInput: as `label_file.by_name` and `match`; no image has a person.
        """
        if self.identities is None:
            return refs, []
        table = by_name(read_label_file(self.identities), ["identity"])
        found = self._match(refs, {name: person for name, (person,) in table.items()}, self.identities)
        whose = zip(refs, found.values, strict=True)
        return [replace(ref, identity=person) for ref, person in whose], found.said("person", self.identities)

    def label_table(self, refs: list[ImageRef]) -> tuple[str | None, list[str]]:
        """A CSV of the labels by the images' own paths, and lines on what is left over; None without labels.

        Raises:
            BadInput: as `with_identities`, of labels.
        """
        if self.labels is None:
            return None, []
        file = read_label_file(self.labels)
        columns = [column for column in file.columns if column != "path"]
        if not columns:
            raise BadInput(f"{self.labels}: has no column beside 'path', and so no labels")
        found = self._match(refs, by_name(file, columns), self.labels)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["path", *columns])
        for ref, row in zip(refs, found.values, strict=True):
            if row is not None:
                writer.writerow([ref.relative, *row])
        return text.getvalue(), found.said("labels", self.labels)

    def _match(self, refs: list[ImageRef], table: dict, where: Path) -> Matched:
        renamed = None if self.renamed is None else read_renamed(self.renamed)
        try:
            found = match([ref.relative for ref in refs], table, renamed)
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from None
        if all(value is None for value in found.values):
            there = next(iter(table), "nothing")
            raise BadInput(f"{where}: has nothing of {refs[0].relative} or any other image (it has {there} …)")
        return found
