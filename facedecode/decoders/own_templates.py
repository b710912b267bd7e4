"""What a recognizer's own templates look like, where no decoder is loaded: by the one that comes with the package."""

from __future__ import annotations

from facedecode import files
from facedecode.decoders.plausibility import Judged, TemplateStatistics, check_templates
from facedecode.decoders.training_record import TrainingRecord
from facedecode.identity import RecognizerId
from facedecode.records import read_json
from facedecode.store import Store


def shipped_statistics(recognizer: RecognizerId) -> TemplateStatistics | None:
    """What a recognizer's templates look like; None where no decoder ships for it."""
    path = files.SHIPPED / recognizer.name / "decoder.json"
    if not path.is_file():
        return None
    held = read_json(path)
    made_for = RecognizerId.from_json(path, held.get("recognizer"))
    if recognizer.weights_sha256 not in (None, made_for.weights_sha256):
        return None
    return TrainingRecord.from_json(path, held.get("training")).templates


def check_store(store: Store) -> Judged:
    """`check_templates` of a whole store, a shard at a time in memory."""
    blocks = (templates for templates, _ in store.shards())
    statistics = shipped_statistics(store.recognizer)
    return check_templates(blocks, store.recognizer, statistics, where=store.folder, done=store.manifest)
