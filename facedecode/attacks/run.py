"""Images → attacked crops, the store of their templates, a table and a figure; resumable to the byte.

Faces are found once, in the images as they are. A shard of the store is the unit of work: its pictures are written
first, then a record of what they do not tell, then the shard, whose own record closes it.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from facedecode import __version__
from facedecode.attacks.base import AttackResult, attack, to_uint8, victim_of
from facedecode.attacks.jobs import AttackJob
from facedecode.attacks.output import AttackFolder, attack_figure, picture_names
from facedecode.attacks.table import Row, measure, parse_table, read_table, table_text
from facedecode.attacks.target import AttackTarget, refuse_target_alone
from facedecode.decoders import Decoder
from facedecode.errors import BadInput, FacedecodeWarning, some_of
from facedecode.extraction.cropping import Cropped, FaceCropper, describe_inputs
from facedecode.files import make_folder, write_bytes, write_text
from facedecode.known_pictures import Known, MadeBy
from facedecode.pictures.faces import Face, moved
from facedecode.pictures.figures import png_bytes
from facedecode.pictures.finding import ImageRef, find_images
from facedecode.pictures.images import load_image, save_image, to_tensor
from facedecode.progress import Progress, silent
from facedecode.provenance import describe_decoder
from facedecode.recognizers.recognizer import Recognizer
from facedecode.recognizers.registry import known_to
from facedecode.store import Store, StoreWriter


@dataclass(frozen=True)
class Attacked:
    """What a run left: the table's rows, the inputs that gave no face, and how many inputs were done before."""

    rows: list[Row]
    failures: list[dict[str, str]]
    resumed: int


def find_inputs(job: AttackJob) -> tuple[Path, list[ImageRef]]:
    """The images' root, and the images. Raises BadInput, and UsageError if the target is the only image."""
    found = find_images(job.images)
    refuse_target_alone(job.target.target, found.refs)
    return found.root, found.refs


def attack_images(
    job: AttackJob,
    cropper: FaceCropper,
    target: AttackTarget,
    decoder: Decoder | None = None,
    progress: Progress = silent,
) -> Attacked:
    """Attack the faces of images, and write pictures, templates, table and figure.

    Args:
        cropper: with the recognizer to attack. target: of `job.target`, see `find_target`.
        decoder: draws the figure's last row.
        progress: called with (inputs done, all inputs, a word on successes).

    Raises:
        UsageError: a black-box recognizer, or one not in fp32; the output and the inputs lie in one another; a
            threshold that no score reaches.
        BadInput: no image shows a face; what an earlier run wrote is damaged; an image changed during the work.
        OutputError, OutputInUse: as `AttackFolder` and `StoreWriter`.

    Warns FacedecodeWarning: what is attacked, or the decoder, was trained on people or pictures that are attacked.
    """
    recognizer = cropper.recognizer
    victim_of(recognizer)
    target.goal(np.empty((0, recognizer.spec.dim), np.float32))  # refuses its threshold now, not after the first shard
    root, refs = find_inputs(job)
    known = whom_they_know(recognizer, target, decoder)
    folder = AttackFolder(job.output, job.images, refs)
    budget = asdict(job.full_budget())
    about = {"method": job.method, "budget": budget, "on_failure": job.on_failure, **target.describe()}
    describe = {
        "transform": None,
        "precision": recognizer.precision,
        "score": recognizer.spec.score,
        "l2_normalized": False,
    }
    settings = {
        **describe,
        "attack": about,
        "detector": cropper.finder.settings,
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
            pictures=known_to(recognizer.spec).pictures,
        ) as writer:
            resumed = len(refs) if writer.complete else writer.resume_inputs
            if not writer.complete:
                run = _Run(job, cropper, target, folder, writer, known, progress)
                failures = run.shards(refs)
                if run.rows:
                    run.finish(root, decoder)
                writer.finish(failures)
            folder.forget_records()  # perhaps of a run that was killed between its manifest and here
            return _left(folder, resumed)
    finally:
        if made and not any(job.output.iterdir()):
            job.output.rmdir()


def whom_they_know(recognizer: Recognizer, target: AttackTarget, decoder: Decoder | None = None) -> dict[str, Known]:
    """What recognizer, attacked classifier and the figure's decoder were trained on, as far as that is recorded."""
    known = {"recognizer": known_to(recognizer.spec)}
    if target.objective == "class":
        known["classifier"] = target.classifier.known
    return known if decoder is None else known | {"decoder": decoder.known}


def _warn_of_known(rows: list[Row]) -> None:
    for what in sorted({word for row in rows for word in (row["known"] or "").split()}):
        paths = [row["path"] for row in rows if what in (row["known"] or "").split()]
        warnings.warn(
            f"the {what} was trained on people or pictures of {len(paths)} of the {len(rows)} faces "
            f"({some_of(paths)}): the {'figure' if what == 'decoder' else 'success'} says little of others",
            FacedecodeWarning,
            stacklevel=3,
        )


def _left(folder: AttackFolder, resumed: int) -> Attacked:
    store = Store.open(folder.store, verify=False)
    for row in store.columns(["path", "sha256"]).to_pylist():
        folder.require_picture(row["path"], row["sha256"])
    rows = read_table(folder.table)
    if [row["picture"] for row in rows] != store.paths():
        raise BadInput(f"{folder.table}: not of the pictures in {folder.store}; use --overwrite")
    if not folder.figure.is_file():
        raise BadInput(f"{folder.figure}: no such file, and the attack had written it; use --overwrite")
    _warn_of_known(rows)
    return Attacked(rows, store.failures(), resumed)


class _Run:
    """A run over the shards that are not done. rows: of all shards, each with `face`, `source_sha256` and `sha256`."""

    def __init__(
        self,
        job: AttackJob,
        cropper: FaceCropper,
        target: AttackTarget,
        folder: AttackFolder,
        writer: StoreWriter,
        known: dict[str, Known],
        progress: Progress,
    ) -> None:
        self.job, self.cropper, self.target = job, cropper, target
        self.folder, self.writer, self.known, self.progress = folder, writer, known, progress
        self.records = folder.read_records(writer.fingerprint, writer.resume_inputs)
        self.rows: list[Row] = [row for record in self.records for row in record["rows"]]

    def shards(self, refs: list[ImageRef]) -> list[dict[str, str]]:
        """Work on what is left of the inputs; the failures since the last shard."""
        names = dict(zip((ref.relative for ref in refs), picture_names(refs), strict=True))
        position = self.writer.resume_inputs
        if position < len(refs):
            self._report(position, len(refs))
        while position < len(refs):
            items: list[Cropped] = []
            failures: list[dict[str, str]] = []
            # No more than the shard has room for: none is read ahead in vain.
            while position < len(refs) and (room := self.job.shard_rows - len(items)):
                start = position

                def seen(count: int, start: int = start) -> None:
                    self._report(start, len(refs), f"{count} images looked at")

                for item in self.cropper.items(refs[start : start + room], self.job.batch_size, seen=seen):
                    position += 1
                    if item.failure:
                        failures.append(item.failure)
                    else:
                        items.append(item)
            if items:
                if not self.rows:
                    self.writer.begin()
                    self.folder.clear()
                self._shard(items, failures, names, position, len(refs))
            self._report(position, len(refs))
            if not items:
                return failures
        return []

    def finish(self, root: Path, decoder: Decoder | None) -> None:
        """Write table and figure, before the store is finished: a finished one has them."""
        text = table_text(self.rows)
        write_text(self.folder.table, text)
        # By the table's own digits, as a later look at it would be.
        rows = [{**row, **read} for row, read in zip(self.rows, parse_table(text, self.folder.table), strict=True)]
        figure = attack_figure(rows, self.target, root, self.folder.pictures, self.cropper.recognizer, decoder)
        write_bytes(self.folder.figure, png_bytes(figure))

    def _shard(
        self, items: list[Cropped], failures: list[dict[str, str]], names: dict[str, str], position: int, total: int
    ) -> None:
        """Attack faces, write their pictures, judge these as they were written, and close the shard."""
        crops, originals = np.stack([item.crop for item in items]), np.stack([item.template for item in items])
        rows: list[Row] = [{"picture": names[item.row["path"]], "gradients": 0, "outcome": "already"} for item in items]
        pictures = crops.copy()
        attempted = np.flatnonzero(self.target.margins(originals, originals) <= 0)
        result = self._attack(crops[attempted], originals[attempted], position, total) if len(attempted) else None
        if result is not None:
            pictures[attempted] = to_uint8(result.pictures).permute(0, 2, 3, 1).cpu().numpy()
        for row, picture in zip(rows, pictures, strict=True):
            path = self.folder.pictures / row["picture"]
            make_folder(path.parent)
            row["sha256"] = save_image(path, picture)
        saved = np.stack([load_image(self.folder.pictures / row["picture"]) for row in rows])
        templates = self.cropper.recognizer.embed_crops(saved)
        for row, measured in zip(rows, measure(self.target, crops, saved, originals, templates), strict=True):
            row |= measured
        made_by, inputs = MadeBy.of(self.cropper.recognizer.describe()), [item.row for item in items]
        told = {what: known.judge(inputs, originals, made_by) for what, known in self.known.items()}
        for number, row in enumerate(rows):
            row["known"] = " ".join(what for what, by in told.items() if by[number]) or None
        reached = self.target.margins(templates, originals) > 0
        for place, i in enumerate(attempted):
            in_memory, saved_too = bool(result.success[place]), bool(reached[i])
            # Lost: only the rounding to 8 bits undid it.
            outcome = "success" if saved_too else "lost" if in_memory else "failed"
            rows[i] |= {"success_memory": in_memory, "success_saved": saved_too, "outcome": outcome}
            rows[i]["gradients"] = int(result.gradients[place])
        described = [self._describe(item, row) for item, row in zip(items, rows, strict=True)]
        record = {"fingerprint": self.writer.fingerprint, "inputs_done": position, "rows": rows}
        self.folder.write_record(len(self.records), record)
        self.writer.append(templates, described, failures, position)
        self.records.append(record)
        self.rows += rows

    def _describe(self, item: Cropped, row: Row) -> dict:
        """The store's row of a picture, where the face lies elsewhere than in its image; completes the table's."""
        face = Face(item.row["box"], item.row["landmarks"], item.row["probability"])
        row |= {
            "path": item.row["path"],
            "identity": item.row["identity"],
            "face": {"box": face.box.tolist(), "landmarks": face.landmarks.tolist()},
            "source_sha256": item.row["sha256"],
        }
        crop = moved(face, self.cropper.recognizer.spec.crop.matrix(face))
        return {
            "path": row["picture"],
            "identity": row["identity"],
            "width": item.crop.shape[1],
            "height": item.crop.shape[0],
            "box": crop.box,
            "landmarks": crop.landmarks,
            "probability": crop.probability,
            "sha256": row["sha256"],
        }

    def _attack(self, crops: np.ndarray, originals: np.ndarray, position: int, total: int) -> AttackResult:
        target, recognizer = self.target, self.cropper.recognizer
        pictures = to_tensor(crops, recognizer.device)

        def report(done: int, count: int, note: str = "") -> None:
            if done < count:
                self._report(position - count + done, total, note)

        return attack(
            victim_of(recognizer, target.classifier.logits if target.objective == "class" else None),
            pictures.contiguous(),
            target.goal(originals),
            self.job.method,
            self.job.full_budget(),
            on_failure=self.job.on_failure,
            batch_size=self.job.batch_size,
            progress=report,
        )

    def _report(self, done: int, total: int, note: str = "") -> None:
        won = sum(row["outcome"] == "success" for row in self.rows)
        attempted = sum(row["outcome"] != "already" for row in self.rows)
        notes = [f"{won} of {attempted} succeeded"] if attempted else []
        self.progress(done, total, ", ".join([*notes, note] if note else notes))
