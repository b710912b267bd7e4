"""A user's model file as bytes, checked before PyTorch sees any of it.

`torch.export.load`, `torch.jit.load` and `torch.load` can run code that a file holds, and operators that reach beyond
the model. So a file is read once, and PyTorch is handed an archive written anew from what was checked.
"""

from __future__ import annotations

import io
from pathlib import Path

from facedecode.errors import BadInput, MissingWeights
from facedecode.files import read_file
from facedecode.recognizers import exported, torchscript
from facedecode.recognizers.archive import Damaged, read_archive, write_archive
from facedecode.recognizers.weights_file import refuse_stand_in


def read_model_file(path: Path) -> bytes:
    """The bytes of a model file. Raises MissingWeights: no such file. BadInput: unreadable, or as `refuse_stand_in`."""
    if not path.exists():
        raise MissingWeights(f"{path}: no such model file; check the path")
    data = read_file(path)
    refuse_stand_in(path, data[:64])
    return data


def checked_torch_file(path: Path, data: bytes) -> tuple[str, io.BytesIO]:
    """What a file holds, `exported` (torch.export.save) or `script` (torch.jit.save), and an archive to load it from.

    Raises BadInput: a pickle (torch.save), a truncated or another file, or a program that is not allowed, see
    `exported` and `torchscript`.
    """
    if data[:1] == b"\x80":
        raise _pickled(path)
    try:
        entries = read_archive(data, compressed=torchscript.CODE)
    except Damaged as error:
        what = "truncated or damaged" if data[:2] == b"PK" else "no model of PyTorch"
        raise BadInput(f"{path}: {what} ({error}); save it again by torch.export.save or torch.jit.save") from None
    try:
        if "archive_format" in entries:
            return "exported", write_archive(exported.checked_program(entries))
        if "constants.pkl" in entries and any(name.startswith(torchscript.CODE) for name in entries):
            return "script", write_archive(torchscript.checked_script(entries))
    except exported.Refused as error:
        raise BadInput(f"{path}: {error}") from None
    except (RecursionError, MemoryError):
        raise BadInput(f"{path}: nested too deeply, or too large; export it again") from None
    if "data.pkl" in entries:
        raise _pickled(path)
    raise BadInput(f"{path}: neither an exported program nor TorchScript; save it by torch.export.save")


def _pickled(path: Path) -> BadInput:
    return BadInput(
        f"{path}: a pickle, as torch.save writes it; it can run code, or has no network, and is not opened: save the "
        "model by torch.export.save or torch.jit.save (docs/own-models.md)"
    )
