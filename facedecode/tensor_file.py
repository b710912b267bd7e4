"""Small fitted things as one safetensors file: tensors, and JSON that says what they are and are for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from facedecode.errors import BadInput, OutputError
from facedecode.files import atomic_write, make_folder
from facedecode.identity import RecognizerId

Fitted = TypeVar("Fitted")
_METADATA_KEY = "facedecode"


@dataclass(frozen=True)
class Kind:
    """What such a file holds.

    Attributes:
        name: "mapping": how messages call it, and the end of the file's `format`.
        command: what makes one, "fit-mapping".
        version: of the file that this facedecode writes and reads.
        about: entries of its JSON and their types; `recognizer` is a `Recognizer.describe()`.
        tensors: their names.
        dtype: of all of them.
    """

    name: str
    command: str
    version: int
    about: Mapping[str, type]
    tensors: Sequence[str]
    dtype: type = np.float32

    @property
    def format(self) -> str:
        return f"facedecode-{self.name.replace(' ', '-')}"

    def write(self, path: Path | str, about: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
        """Write the file, atomically; equal content gives equal bytes. Raises OutputError."""
        from safetensors.numpy import save

        content = {name: np.ascontiguousarray(tensors[name], self.dtype) for name in self.tensors}
        about = {"format": self.format, "version": self.version, **about, "recognizer": about["recognizer"].as_json()}
        text = json.dumps(about, sort_keys=True, allow_nan=False)
        with atomic_write(path) as file:
            # One entry only: safetensors writes several in random order.
            file.write(save(content, metadata={_METADATA_KEY: text}))

    def read(self, path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What `write` wrote: the JSON and the tensors.

        Raises:
            BadInput: naming the file: missing, truncated or not safetensors, of another kind, an unknown version,
                missing entries, or wrong types. Shapes and values are the caller's to check.
        """
        about, tensors = self._content(path)
        version = about.get("version")
        if about.get("format") != self.format:
            raise BadInput(f"{path}: not a {self.name}; make one with 'facedecode {self.command}'")
        if version != self.version:
            raise BadInput(f"{path}: version {version!r}, and this facedecode reads {self.version}; fit it again")
        for key, kind in self.about.items():
            if not isinstance(about.get(key), kind):
                raise BadInput(f"{path}: its metadata lacks a usable {key!r}; fit it again")
        about["recognizer"] = RecognizerId.from_json(path, about["recognizer"])
        for key in self.tensors:
            if key not in tensors:
                raise BadInput(f"{path}: lacks the tensor {key!r}; fit it again")
            if tensors[key].dtype != self.dtype:
                raise BadInput(f"{path}: {key!r} is {tensors[key].dtype}, not {np.dtype(self.dtype)}; fit it again")
        return about, tensors

    def finished(
        self, path: Path, load: Callable[[Path], Fitted], same: Callable[[Fitted], bool], overwrite: bool
    ) -> Fitted | None:
        """What an earlier run of the same work left at `path`; else None, and the place is made ready for it.

        Args:
            load: reads such a file. same: whether what it read is what would be made.

        Raises:
            OutputError: it is a folder, or holds something else and `overwrite` is off. BadInput: as `load`.
        """
        if path.is_dir():
            raise OutputError(f"{path}: is a folder, and a {self.name} is a file; give -o {path}.safetensors")
        if path.exists() and not overwrite:
            there = load(path)
            if same(there):
                return there
            raise OutputError(f"{path}: holds a {self.name} of other data or settings; use --overwrite or another -o")
        make_folder(path.parent)
        return None

    def _content(self, path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        from safetensors import SafetensorError, safe_open

        if not path.is_file():
            raise BadInput(f"{path}: no such {self.name}; make one with 'facedecode {self.command}'")
        try:
            with safe_open(path, framework="numpy") as file:
                about = json.loads((file.metadata() or {}).get(_METADATA_KEY, "{}"))
                there = set(file.keys())
                # Other types than these may not exist in NumPy.
                tensors = {name: file.get_tensor(name) for name in self.tensors if name in there}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, SafetensorError) as error:
            reason = str(error).partition("\n")[0]
            raise BadInput(f"{path}: not a readable safetensors file ({reason}); fit it again") from error
        return about if isinstance(about, dict) else {}, tensors
