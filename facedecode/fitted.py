"""What is fitted to the templates of pictures, as one file that says which these were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from facedecode.known_pictures import Known, KnownPictures
from facedecode.tensor_file import Fitted

_ENTRY = "known_pictures"
PICTURES = f"{_ENTRY}."
"""How the names of tensors begin that are a list of pictures."""


@dataclass(frozen=True, eq=False)
class FittedToPictures(Fitted):
    """A `Fitted` that knows whom and which pictures it was fitted on.

    pictures: None where they are not recorded.
    """

    FURTHER: ClassVar[str | None] = PICTURES

    pictures: KnownPictures | None = field(default=None, init=False, repr=False)

    @property
    def fitted_on(self) -> list[str] | None:
        """The people, those held out of the fit among them; None where that is not recorded."""
        raise NotImplementedError

    @property
    def known(self) -> Known:
        """Whom and which pictures it was fitted on."""
        return Known(self.fitted_on or (), self.pictures)

    def remember(self, pictures: KnownPictures | None) -> None:
        """Keep which pictures it was fitted on."""
        object.__setattr__(self, "pictures", pictures)

    def _take(self, path: Path, header: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
        self.remember(read_pictures(path, header, tensors))

    def _further(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return written_pictures(self.pictures)


def written_pictures(pictures: KnownPictures | None) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A list of pictures as entries of a file's header, and as tensors; none of either where there is no list."""
    if pictures is None:
        return {}, {}
    header, tensors = pictures.entries()
    return {_ENTRY: header}, {f"{PICTURES}{name}": tensor for name, tensor in tensors.items()}


def read_pictures(path: Path, header: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> KnownPictures | None:
    """What `written_pictures` gave to a file. Raises BadInput naming it: it is no such list."""
    found = {name.removeprefix(PICTURES): each for name, each in tensors.items() if name.startswith(PICTURES)}
    return KnownPictures.of_entries(path, header.get(_ENTRY), found) if _ENTRY in header or found else None
