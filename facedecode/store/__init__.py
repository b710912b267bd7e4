"""The embedding store: template shards, the rows that belong to them, and a manifest that describes both.

A store is a folder:

    00000.npy 00001.npy …          float32, C order, little-endian, (rows, dim); never empty
    00000.parquet 00001.parquet …  one row for each template, in the same order (COLUMNS)
    failures.jsonl                 {path, stage, reason} of each input that gave no template
    manifest.json                  written last: a folder without it is no finished store
"""

from facedecode.identity import RecognizerId, require_same_recognizer
from facedecode.store.layout import COLUMNS, FORMAT_VERSION, Manifest, read_manifest
from facedecode.store.paths import ImageFolder
from facedecode.store.processing import Processing
from facedecode.store.reader import Store, Templates, load_templates
from facedecode.store.writer import StoreWriter

__all__ = [
    "COLUMNS",
    "FORMAT_VERSION",
    "ImageFolder",
    "Manifest",
    "Processing",
    "RecognizerId",
    "Store",
    "StoreWriter",
    "Templates",
    "load_templates",
    "read_manifest",
    "require_same_recognizer",
]
