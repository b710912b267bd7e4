"""Images → attacked crops, the store of their templates, a table and a figure; resumable to the byte.

Faces are found once, in the images as they are. A shard of the store is the unit of work: its pictures are written
first, then a record of what they do not tell, then the shard, whose own record closes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from facedecode import __version__
from facedecode.attacks.base import ON_FAILURE, AttackResult, Victim, attack, to_uint8, victim_of
from facedecode.attacks.methods import Budget, find_method
from facedecode.attacks.output import (
    AttackFolder,
    Row,
    attack_figure,
    measure,
    outcome,
    parse_table,
    picture_names,
    read_table,
    table_text,
)
from facedecode.attacks.target import AttackTarget
from facedecode.decoders import Decoder
from facedecode.errors import BadInput, UsageError
from facedecode.extraction.cropping import Cropped, FaceCropper, describe_inputs
from facedecode.files import make_folder, sha256_file, write_bytes, write_text
from facedecode.pictures.faces import Face, moved
from facedecode.pictures.figures import png_bytes
from facedecode.pictures.images import ImageRef, find_images, load_image, save_image
from facedecode.provenance import describe_decoder
from facedecode.recognizers.recognizer import Recognizer
from facedecode.store import Store, StoreWriter

Progress = Callable[[int, int, str], None]
SHARD_ROWS = 64  # an attack takes seconds an image: what a killed run loses is at most so many


@dataclass(frozen=True, kw_only=True)
class AttackJob:
    """What to attack, how, and where to write it.

    Attributes:
        inputs: images or folders, as for `extract`.
        output: see `folder`; a run that was interrupted there is resumed.
        method: a key of `METHODS`.
        on_failure: what is saved of a face that resisted: the `original` crop, or the last iterate (`keep`).
        batch_size: faces that go through together.
    """

    inputs: Sequence[Path]
    output: Path
    method: str = "itfgsm"
    budget: Budget = field(default_factory=Budget)
    on_failure: str = "original"
    batch_size: int = 16
    shard_rows: int = SHARD_ROWS
    overwrite: bool = False


@dataclass(frozen=True)
class Attacked:
    """What a run left: the table's rows, the inputs that gave no face, and how many inputs were done before."""

    rows: list[Row]
    failures: list[dict[str, str]]
    resumed: int


def attack_images(
    job: AttackJob,
    cropper: FaceCropper,
    aim: AttackTarget,
    decoder: Decoder | None = None,
    progress: Progress | None = None,
) -> Attacked:
    """Attack the faces of images, and write pictures, templates, table and figure.

    Args:
        cropper: with the recognizer to attack.
        decoder: draws the figure's last row, from the attacked templates; the figure is without it if None.
        progress: called with (inputs done, all inputs, a word on successes).

    Raises:
        UsageError: a black-box recognizer, or one not in fp32; a method or budget that does not fit; the output and
            the inputs lie in one another; a threshold that no score reaches.
        BadInput: no image shows a face; what an earlier run wrote is damaged; an image changed during the work.
        OutputError, OutputInUse: as `AttackFolder` and `StoreWriter`.
    """
    recognizer = cropper.recognizer
    victim = victim_of(recognizer, aim.classifier.logits if aim.objective == "class" else None)
    budget = find_method(job.method).budget(job.budget)
    if job.on_failure not in ON_FAILURE:
        raise UsageError(f"on_failure {job.on_failure!r}: choose one of {', '.join(ON_FAILURE)}")
    aim.goal(np.empty((0, recognizer.spec.dim), np.float32))  # refuses its threshold now, not after the first shard
    root, refs = find_images(job.inputs)
    folder = AttackFolder(job.output, job.inputs, refs)
    about = {"method": job.method, "budget": asdict(budget), "on_failure": job.on_failure, **aim.describe()}
    describe = {
        "transform": None,
        "precision": recognizer.precision,
        "score": recognizer.spec.score,
        "l2_normalized": False,
    }
    settings = {
        **describe,
        "attack": about,
        "detector": cropper.detector.settings,
        "device": recognizer.device.type,
        "batch_size": job.batch_size,
        "figure": describe_decoder(decoder) if decoder else None,
        **describe_inputs(refs),
    }
    made = not job.output.exists()
    make_folder(job.output)
    try:
        with StoreWriter(
            folder.store,
            settings,
            folder.pictures,
            recognizer.describe(),
            job.shard_rows,
            overwrite=job.overwrite,
            manifest={**describe, "attack": about, "tool_version": __version__},
        ) as writer:
            resumed = len(refs) if writer.complete else writer.resume_inputs
            if writer.complete:
                folder.forget_records()  # of a run killed between its manifest and here
                return _left(folder, resumed)
            run = _Run(job, cropper, aim, victim, budget, folder, writer, progress)
            last = run.shards(refs)
            if run.rows:
                _finish(folder, run.rows, aim, root, recognizer, decoder)
            writer.finish(last)
            folder.forget_records()
            return _left(folder, resumed)
    finally:
        if made and not any(job.output.iterdir()):
            job.output.rmdir()


def _finish(
    folder: AttackFolder,
    rows: list[Row],
    aim: AttackTarget,
    root: Path,
    recognizer: Recognizer,
    decoder: Decoder | None,
) -> None:
    """Before the store is finished: a finished one has its table and its figure."""
    text = table_text(rows)
    write_text(folder.table, text)
    # By the table's own digits, as a later look at it would be.
    shown = [{**row, **read} for row, read in zip(rows, parse_table(text, folder.table), strict=True)]
    picture = attack_figure(shown, aim, root, folder.pictures, recognizer, decoder)
    write_bytes(folder.figure, png_bytes(picture))


def _left(folder: AttackFolder, resumed: int) -> Attacked:
    store = Store.open(folder.store, verify=False)
    for row in store.columns(["path", "sha256"]).to_pylist():
        folder.require_picture(row["path"], row["sha256"])
    rows = read_table(folder.table)
    if [row["picture"] for row in rows] != store.paths():
        raise BadInput(f"{folder.table}: not of the pictures in {folder.store}; use --overwrite")
    if not folder.figure.is_file():
        raise BadInput(f"{folder.figure}: no such file, and the attack had written it; use --overwrite")
    return Attacked(rows, store.failures(), resumed)


class _Run:
    """A run over the shards that are not done. rows: of all shards, each with `face`, `source_sha256` and `sha256`."""

    def __init__(
        self,
        job: AttackJob,
        cropper: FaceCropper,
        aim: AttackTarget,
        victim: Victim,
        budget: Budget,
        folder: AttackFolder,
        writer: StoreWriter,
        progress: Progress | None,
    ) -> None:
        self.job, self.cropper, self.aim, self.victim, self.budget = job, cropper, aim, victim, budget
        self.folder, self.writer, self.progress = folder, writer, progress
        self.records = folder.read_records(writer.fingerprint, writer.resume_inputs)
        self.rows: list[Row] = [row for record in self.records for row in record["rows"]]

    def shards(self, refs: list[ImageRef]) -> list[dict[str, str]]:
        """Work on what is left of the inputs; the failures since the last shard."""
        names = dict(zip((ref.relative for ref in refs), picture_names(refs), strict=True))
        position = self.writer.resume_inputs
        while position < len(refs):
            items, failures = [], []
            # No more than the shard has room for: none is read ahead in vain.
            while position < len(refs) and (room := self.job.shard_rows - len(items)):
                for item in self.cropper.items(refs[position : position + room], self.job.batch_size):
                    position += 1
                    if item.failure:
                        failures.append(item.failure)
                    else:
                        items.append(item)
            if not items:
                self._tell(position, len(refs))
                return failures
            if not self.rows:
                self.writer.begin()
                self.folder.clear()
            self._shard(items, failures, names, position, len(refs))
        return []

    def _shard(
        self, items: list[Cropped], failures: list[dict[str, str]], names: dict[str, str], position: int, total: int
    ) -> None:
        crops, own = np.stack([item.crop for item in items]), np.stack([item.template for item in items])
        attempted = np.flatnonzero(self.aim.margins(own, own) <= 0)
        result = self._attack(crops[attempted], own[attempted], position, total) if len(attempted) else None
        rows, faces = [], []
        pictures = crops.copy()
        if result is not None:
            pictures[attempted] = to_uint8(result.pictures).permute(0, 2, 3, 1).cpu().numpy()
        for item, picture in zip(items, pictures, strict=True):
            path = self.folder.pictures / names[item.row["path"]]
            make_folder(path.parent)
            save_image(path, picture)
            face = Face(item.row["box"], item.row["landmarks"], item.row["probability"])
            faces.append(moved(face, self.cropper.recognizer.spec.crop.matrix(face)))
            rows.append(
                {
                    "path": item.row["path"],
                    "picture": names[item.row["path"]],
                    "identity": item.row["identity"],
                    "face": {"box": face.box.tolist(), "landmarks": face.landmarks.tolist()},
                    "source_sha256": item.row["sha256"],
                    "sha256": sha256_file(path),
                }
            )
        self._judge(rows, crops, own, attempted, result, faces, failures, position)
        self._tell(position, total)

    def _judge(
        self,
        rows: list[Row],
        crops: np.ndarray,
        own: np.ndarray,
        attempted: np.ndarray,
        result: AttackResult | None,
        faces: list[Face],
        failures: list[dict[str, str]],
        position: int,
    ) -> None:
        """Look at the files that were written, and close the shard."""
        saved = np.stack([load_image(self.folder.pictures / row["picture"]) for row in rows])
        templates = self.cropper.recognizer.embed_crops(saved)
        reached = self.aim.margins(templates, own) > 0
        for row, measured in zip(rows, measure(self.aim, crops, saved, own, templates), strict=True):
            row |= {**measured, "gradients": 0, "outcome": "already"}
        for place, i in enumerate(attempted):
            flags = bool(result.success[place]), bool(reached[i])
            rows[i] |= {"success_memory": flags[0], "success_saved": flags[1], "outcome": outcome(False, *flags)}
            rows[i]["gradients"] = int(result.gradients[place])
        side = crops.shape[1]
        described = [
            {
                "path": row["picture"],
                "identity": row["identity"],
                "width": side,
                "height": side,
                "box": face.box,
                "landmarks": face.landmarks,
                "probability": face.probability,
                "sha256": row["sha256"],
            }
            for row, face in zip(rows, faces, strict=True)
        ]
        record = {"fingerprint": self.writer.fingerprint, "inputs_done": position, "rows": rows}
        self.folder.write_record(len(self.records), record)
        self.writer.append(templates, described, failures, position)
        self.records.append(record)
        self.rows += rows

    def _attack(self, crops: np.ndarray, own: np.ndarray, position: int, total: int) -> AttackResult:
        pictures = torch.from_numpy(crops).permute(0, 3, 1, 2).to(self.cropper.recognizer.device).float() / 255

        def told(done: int, count: int) -> None:
            if done < count:
                self._tell(position - count + done, total)

        return attack(
            self.victim,
            pictures.contiguous(),
            self.aim.goal(own),
            self.job.method,
            self.budget,
            on_failure=self.job.on_failure,
            batch_size=self.job.batch_size,
            progress=told,
        )

    def _tell(self, done: int, total: int) -> None:
        if self.progress:
            won = sum(row["outcome"] == "success" for row in self.rows)
            attempted = sum(row["outcome"] != "already" for row in self.rows)
            self.progress(done, total, f"{won} of {attempted} succeeded" if attempted else "")
