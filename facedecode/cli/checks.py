"""Looks at a user's inputs and outputs before any work, and without torch.

Are the inputs there, and of the kind that an option takes? Can the outputs be written?
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from facedecode.cli.console import speaks
from facedecode.errors import BadInput, MissingWeights, UsageError

Others = Mapping[str, Any]
Check = Callable[[str, Others], None]


def check(kind: str, value: Any, others: Mapping[str, Any]) -> None:
    """Refuse a value, or one of several, that is not of a kind.

    others: all values by the names of their parameters.

    Raises:
        BadInput: it is not there, or of another kind.
        MissingWeights: there are no such weights.
        UsageError: a name that is malformed.
    """
    for one in value if isinstance(value, list | tuple) else [value]:
        if one is not None:
            CHECKS[kind](str(one), others)


def try_output(kind: str, value: Any, others: Mapping[str, Any]) -> None:
    """Refuse an output, of a kind, that cannot be written. Of several processes the first alone writes.

    Raises OutputError: see `files.require_place`.
    """
    if speaks():
        OUTPUTS[kind](str(value), others)


def _mode(value: str) -> int:
    """The type and permissions of what a path leads to; 0 if nothing. Raises BadInput: that cannot be told."""
    try:
        return os.stat(value).st_mode  # noqa: PTH116 (a Path says no more)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        raise BadInput(f"{value}: cannot be read: {error.strerror}") from None


def _file(value: str, _: Others) -> None:
    if not stat.S_ISREG(mode := _mode(value)):
        raise BadInput(f"{value}: no such file{_instead(mode)}")


def _path(value: str, _: Others) -> None:
    if not _mode(value):
        raise BadInput(f"{value}: no such file or folder; check the path")


def _instead(mode: int) -> str:
    return "; it is a folder" if stat.S_ISDIR(mode) else "; it is no regular file" if mode else "; check the path"


def _images(value: str, others: Others) -> None:
    if value != "-":
        _path(value, others)


def _store(value: str, _: Others) -> None:
    from facedecode.store.layout import read_manifest

    read_manifest(Path(value))


def _array(value: str, _: Others) -> None:
    from facedecode.store.npy import read_header

    read_header(Path(value))


def _embeddings(value: str, others: Others) -> None:
    from facedecode.files import open_file

    if Path(value).is_dir():
        return
    with open_file(value) as file:
        magic = file.read(4)
    if magic != b"PAR1" and magic[:2] != b"PK":
        _array(value, others)


def _templates(value: str, others: Others) -> None:
    path = Path(value)
    (_array if path.is_file() or path.suffix == ".npy" else _store)(value, others)


def _labeled(of: Check) -> Check:
    """Of NAME=VALUE; a value alone is labeled by itself."""
    return lambda value, others: of(value.partition("=")[2] or value, others)


def _after_equals(value: str, others: Others) -> None:
    if file := value.partition("=")[2]:
        _weights(file, others)


def _fitted(name: str, command: str) -> Check:
    """A file that a command fitted; see `tensor_file.Kind`."""

    def check_fitted(value: str, _: Others) -> None:
        from facedecode.tensor_file import read_about

        if not stat.S_ISREG(mode := _mode(value)):
            instead = _instead(mode) if mode else ""
            raise BadInput(f"{value}: no such {name}; make one with 'facedecode {command}'{instead}")
        if read_about(Path(value)).get("format") != f"facedecode-{name.replace(' ', '-')}":
            raise BadInput(f"{value}: not a {name}; make one with 'facedecode {command}'")

    return check_fitted


def _device(value: str, _: Others) -> None:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]+)?", value):
        raise UsageError(f"--device {value}: no such device; use auto, cpu, cuda, cuda:N or mps")


def _model(value: str, others: Others) -> None:
    from facedecode.recognizers.contract import TEMPLATES_ONLY, custom_file, full_model_name
    from facedecode.recognizers.registry import find_spec_by_name

    if file := custom_file(full_model_name(value)):
        _file(str(file), others)
    elif not value.startswith(TEMPLATES_ONLY):
        find_spec_by_name(value, others.get("weights"))


def _spec(value: str, _: Others) -> None:
    from facedecode.recognizers.contract import require_spec

    require_spec(value)


def _transform(value: str, _: Others) -> None:
    from facedecode.pictures.perturb import parse_transform

    parse_transform(value)


def _transforms(value: str, _: Others) -> None:
    from facedecode.pictures.perturb import expand_group

    expand_group(value)


def _weights(value: str, _: Others) -> None:
    if not _mode(value):
        raise MissingWeights(f"{value}: no such weights file")


def _decoder(value: str, _: Others) -> None:
    from facedecode.files import find_decoder

    if value != "none":
        find_decoder(value)


CHECKS: Mapping[str, Check] = {
    "file": _file,
    "path": _path,
    "images": _images,
    "store": _store,
    "labeled store": _labeled(_store),
    "templates": _templates,
    "embeddings": _embeddings,
    "mapping": _fitted("mapping", "fit-mapping"),
    "mapping sums": _fitted("mapping-sums file", "fit-mapping --sums-to"),
    "direction": _fitted("direction", "evaluate leakage"),
    "disentangler": _fitted("disentangler", "train --kind disentangler"),
    "classifier": _fitted("classifier", "train --kind classifier"),
    "confidence map": _fitted("confidence map", "fit-confidence"),
    "weights": _weights,
    "labeled weights": _labeled(_weights),
    "name or labeled file": _after_equals,
    "model": _model,
    "spec": _spec,
    "decoder": _decoder,
    "labeled decoder": _labeled(_decoder),
    "device": _device,
    "transform": _transform,
    "transforms": _transforms,
}


def _place(value: str, folder: bool, parents: bool = False) -> None:
    from facedecode.files import require_place  # --help has no use for it

    require_place(value, folder, parents)


def _png_or_folder(value: str, _: Others) -> None:
    _place(value, folder=Path(value).suffix.lower() != ".png")


def _maps(value: str, others: Others) -> None:
    if not others.get("sums_to"):  # then there are no maps
        _place(value, folder=True)


OUTPUTS: Mapping[str, Check] = {
    "file": lambda value, _: _place(value, folder=False),
    "fitted file": lambda value, _: _place(value, folder=False, parents=True),
    "folder": lambda value, _: _place(value, folder=True),
    "PNG or folder": _png_or_folder,
    "folder of maps": _maps,
}
