"""What a user's own model expects of its pictures: a small JSON file beside the model. Free of torch.

Nothing that decides a template is guessed: a wrong mean gives templates that look right and are not.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from facedecode.errors import BadInput, UsageError
from facedecode.identity import RecognizerId
from facedecode.options import named
from facedecode.pictures.align import CROPS, Crop, named_crop

OWN = ("onnx:", "torch:")
"""What the name of a user's own model begins with: `onnx:FILE` on the command line, `onnx:NAME` in a manifest."""

_NEEDED = ("crop", "channels", "mean", "scale")
_CHOICES = {
    "crop": CROPS,
    "box_side": ("longer", "shorter", "mean", "both"),
    "channels": ("RGB", "BGR"),
    "score": ("cosine", "negative-euclidean"),
    "gives": ("probability", "logit"),
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# What a manifest has beside, not in, the contract: it decides no template.
_BESIDE = ("name", "license", "layers", "threshold")
_MOST_PIXELS = 4096


GIVEN = "given:"
"""What the name of a recognizer begins with of which there are templates only."""


def is_own(name: str) -> bool:
    """Whether a recognizer's name is that of a user's own model."""
    return name.startswith(OWN)


def file_of(name: str) -> Path | None:
    """The file of a user's own model that a command line names: FILE of `onnx:FILE`; None of any other name."""
    return Path(name.partition(":")[2]) if is_own(name) else None


@dataclass(frozen=True)
class Contract:
    """What a model takes and gives.

    Attributes:
        crop: one of `align.CROPS`. box_factor, box_side: of the crop `box`, as in `BoxCrop`.
        channels: their order, `RGB` or `BGR`.
        mean, scale: the input is `(255 · picture − mean) / scale`, in the order of `channels`.
        name: what the manifest calls the model, after `onnx:` or `torch:`.
        size: of the crop, px; None where the file says it.
        score, license: as in `RecognizerSpec`. threshold: its `recommended_threshold`.
        layers: modules of an exported program whose outputs serve as φ.
        output: number of the output that is the template, where there are several.
        gives: of a judge: `probability` or `logit`, of its second class. classes: a judge's two.
    """

    crop: str
    channels: str
    mean: tuple[float, float, float]
    scale: tuple[float, float, float]
    name: str
    size: int | None = None
    box_factor: float = 1.0
    box_side: str = "longer"
    score: str = "cosine"
    license: str = "not stated"
    threshold: float | None = None
    layers: tuple[str, ...] = ()
    output: int | None = None
    gives: str | None = None
    classes: tuple[str, str] | None = None

    def how_to_crop(self, size: int) -> Crop:
        """The crop at `size` pixels."""
        return named_crop(self.crop, size, self.box_factor, self.box_side)

    def describe(self) -> dict[str, Any]:
        """JSON for a manifest: all that decides a template."""
        return {key: value for key, value in asdict(self).items() if key not in _BESIDE and value is not None}


def read_contract(model: Path, given: Path | None) -> Contract:
    """The contract of a model file: that in `given`, else in the model's own name with `.json` behind it.

    Raises:
        UsageError: neither is there.
        BadInput: naming the file: no JSON object, a field that is missing, unknown or malformed.
    """
    path = given or model.with_name(f"{model.name}.json")
    try:
        fields_of = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"{model}: what it expects of pictures is not said: write {path}, a JSON object with "
            f"{', '.join(_NEEDED)} (docs/own-models.md), or name one by --spec"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "not valid JSON"
        raise BadInput(f"{path}: cannot be read as the contract of {model.name} ({reason})") from None
    return parse_contract(fields_of, str(path), model.stem)


def described_contract(described: RecognizerId) -> Contract:
    """The contract in a recorded identity. Raises BadInput where it has none."""
    where = f"the description of {described.name}"
    if described.contract is None:
        raise BadInput(f"{where} lacks its contract: make the store again")
    name = described.name.partition(":")[2]
    beside = {key: value for key in _BESIDE if (value := getattr(described, key)) is not None}
    return parse_contract({**described.contract, **beside, "name": name}, where, name)


def parse_contract(given: Any, where: str, default_name: str) -> Contract:
    """A contract from JSON's object. where: for messages. Raises BadInput naming the field."""
    if not isinstance(given, dict):
        raise BadInput(f"{where}: holds no JSON object")
    given = {key: value for key, value in given.items() if value is not None}
    known = [field.name for field in fields(Contract)]
    if unknown := sorted(set(given) - set(known)):
        raise BadInput(f"{where}: there is no field {unknown[0]!r}; there are {', '.join(known)}")
    if missing := [name for name in _NEEDED if name not in given]:
        raise BadInput(f"{where}: does not say {' and '.join(missing)} (docs/own-models.md)")
    checked: dict[str, Any] = {"name": default_name, **given}
    for name, choices in _CHOICES.items():
        if name in checked and checked[name] not in choices:
            raise BadInput(f"{where}: {name} is {_shown(checked[name])}; use {', '.join(choices)}")
    if not isinstance(checked["name"], str) or not _NAME.fullmatch(checked["name"]):
        raise BadInput(f"{where}: a name has letters, digits, '.', '_' and '-' only, not {_shown(checked['name'])}")
    contract = Contract(**checked)
    mean, scale = _three(contract.mean, "mean", where), _three(contract.scale, "scale", where)
    contract = replace(contract, mean=mean, scale=scale)
    if any(value < 1 for value in contract.scale) or any(0 < abs(value) < 1 for value in contract.mean):
        raise BadInput(
            f"{where}: mean and scale are of pictures from 0 to 255, not {_shown(given['mean'])} and "
            f"{_shown(given['scale'])}; multiply both by 255"
        )
    _check_number(contract.size, "size", where, whole=True, low=8, high=_MOST_PIXELS)
    _check_number(contract.box_factor, "box_factor", where, low=0.1, high=10)
    _check_number(contract.threshold, "threshold", where)
    _check_number(contract.output, "output", where, whole=True, low=0)
    if contract.crop != "box" and (contract.box_factor, contract.box_side) != (1, "longer"):
        raise BadInput(f"{where}: box_factor and box_side go with the crop box")
    if not isinstance(contract.license, str):
        raise BadInput(f"{where}: license is text, not {_shown(contract.license)}")
    layers, classes = contract.layers, contract.classes
    if not _texts(layers):
        raise BadInput(f"{where}: layers are names of modules, not {_shown(layers)}")
    if classes is not None and (not _texts(classes) or len(set(classes)) != 2 or len(classes) != 2):
        raise BadInput(f"{where}: classes are two names, not {_shown(classes)}")
    return replace(contract, layers=tuple(layers), classes=None if classes is None else tuple(classes))


def _three(value: Any, name: str, where: str) -> tuple[float, float, float]:
    values = list(value) if isinstance(value, list | tuple) else [value] * 3
    if len(values) != 3 or not all(_is_number(each) for each in values):
        raise BadInput(f"{where}: {name} is a number, or one for each channel, not {_shown(value)}")
    return tuple(float(each) for each in values)


def _check_number(
    value: Any, name: str, where: str, whole: bool = False, low: float = -math.inf, high: float = math.inf
) -> None:
    if value is None:
        return
    if not _is_number(value) or (whole and not isinstance(value, int)) or not low <= value <= high:
        span = "" if low == -math.inf else f" of at least {low}" if high == math.inf else f" from {low} to {high}"
        raise BadInput(f"{where}: {name} is a {'whole ' if whole else ''}number{span}, not {_shown(value)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, str) and each for each in value)


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else f"{text[:37]}..."


def named_networks(options: Sequence[str], option: str) -> dict[str, str]:
    """Perceptual networks, as `named`; of a model of one's own its file is enough.

    `torch:FILE` and `torch:FILE:LAYER+LAYER` become `torch:NAME=FILE` and so on, by the name in its contract.

    Raises:
        UsageError, BadInput: as `named` and `read_contract`.
    """
    spelled = []
    for given in options:
        kind = next((prefix for prefix in OWN if given.startswith(prefix)), "")
        file, colon, layers = given.removeprefix(kind).partition(":")
        if kind and "=" not in given and Path(file).is_file():
            given = f"{kind}{read_contract(Path(file), None).name}{colon}{layers}={file}"
        spelled.append(given)
    return named(spelled, option)
