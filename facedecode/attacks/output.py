"""An attack's output folder: its places, the records of an unfinished run, and the figure."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar

import numpy as np
import torch

from facedecode.attacks.table import Row
from facedecode.attacks.target import AttackTarget
from facedecode.decoders import Decoder
from facedecode.errors import BadInput, OutputError, UsageError
from facedecode.escaping import file_name
from facedecode.files import make_folder, sha256_file, write_json
from facedecode.pictures.faces import Face
from facedecode.pictures.figures import enlarged, picture_grid, shortened
from facedecode.pictures.finding import ImageRef
from facedecode.pictures.images import load_image, read_image, to_tensor
from facedecode.recognizers.recognizer import Recognizer
from facedecode.records import Count, Record, has_text, read_json
from facedecode.statistics.scores import score_pairs
from facedecode.store.layout import MANIFEST, PROGRESS, has_marker
from facedecode.store.paths import require_path

FIGURE_COLUMNS = 8
_MOST = 100  # times; noise that is smaller is not to be seen in the attacked crop either
_SHARE = 99.5  # % of the noise that is shown without being cut off


@dataclass(frozen=True)
class _Done(Record):
    """What is kept of a shard's rows until the table is written. inputs_done: as of the store's own record."""

    REMEDY: ClassVar[str] = "use --overwrite"

    fingerprint: str
    inputs_done: Count
    rows: tuple[Annotated[dict[str, Any], has_text("picture", "sha256", "path", "source_sha256", "outcome")], ...]
    further: dict[str, Any] = field(default_factory=dict)


class AttackFolder:
    """The places in an attack's output folder.

    Raises OutputError for a folder with other files, and UsageError for one inside a folder of inputs, or around one.
    """

    def __init__(self, folder: Path, inputs: Sequence[Path], refs: Sequence[ImageRef]) -> None:
        self.folder = folder
        self.pictures, self.store = folder / "pictures", folder / "emb"
        self.table, self.figure, self.records = folder / "attacks.csv", folder / "attacks.png", folder / "records"
        where = folder.resolve()
        for path in inputs:
            if path.is_dir() and where.is_relative_to(path.resolve()):
                raise UsageError(f"-o {folder}: lies in {path}, whose images are the inputs; name a folder outside it")
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

        Raises BadInput: a record is missing or another run's, or a picture of it is missing or was changed.
        """
        records: list[dict[str, Any]] = []
        while (records[-1]["inputs_done"] if records else 0) < inputs_done:
            path = self.records / f"{len(records):05d}.json"
            record = _Done.from_json(path, read_json(path))
            if record.fingerprint != fingerprint:
                raise BadInput(f"{path}: of another run; use --overwrite")
            for row in record.rows:
                require_path(path, row["picture"])
                self.require_picture(row["picture"], row["sha256"])
            records.append(record.as_json())
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
    paths = [PurePosixPath(ref.relative) for ref in refs]
    folders = [PurePosixPath(*map(file_name, path.parent.parts)) for path in paths]
    taken = {str(part).casefold() for folder in folders for part in (folder, *folder.parents)}

    def pictures(stems: Iterable[str]) -> list[str]:
        return [
            (folder / f"{file_name(stem, '.png')}.png").as_posix() for folder, stem in zip(folders, stems, strict=True)
        ]

    names = pictures(path.stem for path in paths)
    longer = pictures(path.name for path in paths)
    numbered = pictures(f"{path.name}.{i}" for i, path in enumerate(paths))
    for other in (longer, numbered):
        seen = Counter(name.casefold() for name in names)
        names = [
            new if seen[name.casefold()] > 1 or name.casefold() in taken else name
            for name, new in zip(names, other, strict=True)
        ]
    return names


def attack_figure(
    rows: list[Row], target: AttackTarget, root: Path, pictures: Path, recognizer: Recognizer, decoder: Decoder | None
) -> np.ndarray:
    """Draw up to eight of the attacked faces, spread evenly over the rows; those that were there already if no other.

    Below each original, attacked crop and reconstruction is the class that it is taken for; or, for an attack on
    templates, its score against the target, or if there is none against the original.

    Args:
        rows: of the table, each with `face` (box and landmarks in the image) and `source_sha256`.
        root: of the images. pictures: folder of the attacked crops.
        decoder: of the recognizer; without it there is no row of reconstructions.

    Returns (H, W, 3) uint8. Raises BadInput: an image changed since it was attacked.
    """
    attempted = [row for row in rows if row["outcome"] != "already"] or rows
    chosen = np.unique(np.linspace(0, len(attempted) - 1, FIGURE_COLUMNS).round().astype(int))
    shown = [attempted[i] for i in chosen]
    before = np.stack([_original(row, root, recognizer) for row in shown])
    after = np.stack([load_image(pictures / row["picture"]) for row in shown])
    change = (after.astype(np.float64) - before) / 255
    factor = _factor(change)
    noise = np.rint(np.clip(0.5 + factor * change, 0, 1) * 255).astype(np.uint8)
    originals, templates = recognizer.embed_crops(before), recognizer.embed_crops(after)
    layers = {
        "original": (before, _captions(target, originals, originals)),
        f"noise x{factor}": (noise, [f"L2 {row['l2']:.2f}" for row in shown]),
        _attacked_label(target): (after, _captions(target, templates, originals)),
    }
    if decoder is not None:
        drawn = _reconstructions(decoder, recognizer, templates)
        layers["reconstruction"] = (drawn, _captions(target, recognizer.embed_crops(drawn), originals))
    grid = [enlarged(images) for images, _ in layers.values()]
    captions = [[shortened(caption, grid[0].shape[1]) for caption in under] for _, under in layers.values()]
    return picture_grid(grid, list(layers), captions)


def _original(row: Row, root: Path, recognizer: Recognizer) -> np.ndarray:
    """The crop that was attacked, (S, S, 3) uint8, cut once more."""
    require_path("the table", row["path"])
    path = root / row["path"]
    image, sha256 = read_image(path)
    if sha256 != row["source_sha256"]:
        raise BadInput(f"{path}: changed since it was attacked; attack it again with --overwrite")
    box, landmarks = (np.array(row["face"][name], np.float32) for name in ("box", "landmarks"))
    face = Face(box, landmarks, 1.0)
    return recognizer.crop(image, face)


def _factor(change: np.ndarray) -> int:
    """By how much noise is amplified about gray, so that nearly all of it keeps within the colors there are."""
    moved = np.abs(change[change != 0])
    return int(np.clip(0.5 / np.percentile(moved, _SHARE), 1, _MOST)) if len(moved) else 1


def _attacked_label(target: AttackTarget) -> str:
    """With the score at which the attack has succeeded."""
    if target.threshold is None:
        return "attacked"
    return f"attacked ({'<' if target.away else '>'} {target.threshold.value:.3g})"


def _captions(target: AttackTarget, templates: np.ndarray, originals: np.ndarray) -> list[str]:
    if target.objective == "class":
        return [target.classifier.names[i] for i in target.logits(templates).argmax(axis=1)]
    scores = score_pairs(templates, originals, target.score) if target.away else target.scores(templates)
    return [f"{score + 0.0:.3f}" for score in scores]


def _reconstructions(decoder: Decoder, recognizer: Recognizer, templates: np.ndarray) -> np.ndarray:
    """What a decoder draws of templates, in the recognizer's own frame: (n, S, S, 3) uint8."""
    portraits = to_tensor(decoder.decode(templates, checked=True), recognizer.device)
    with torch.inference_mode():
        crops = recognizer.crop_portraits(portraits)
        return (crops * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
