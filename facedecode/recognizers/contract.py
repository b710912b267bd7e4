"""What a user's own model expects of its pictures: a small JSON file beside the model. Free of torch.

Nothing that decides a template is guessed: a wrong mean gives templates that look right and are not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from facedecode.errors import BadInput, UsageError
from facedecode.identity import RecognizerId
from facedecode.options import named
from facedecode.pictures.align import BoxSide, Crop, named_crop
from facedecode.records import Count, Limit, Record, is_number, read_json

CUSTOM = ("onnx:", "torch:")
"""Beginnings of the names of users' own models: `onnx:FILE` on the command line, `onnx:NAME` in a manifest."""
TEMPLATES_ONLY = "given:"
"""Beginning of the names of recognizers of which there are only templates here."""
# Fields that a manifest has beside, not in, the contract: they decide no template.
_BESIDE = ("name", "license", "layers", "threshold")


def custom_kind(name: str) -> str:
    """`onnx:` or `torch:` where a recognizer's name is that of a user's own model, else empty."""
    return next((prefix for prefix in CUSTOM if name.startswith(prefix)), "")


def is_custom(name: str) -> bool:
    """Whether a recognizer's name is that of a user's own model."""
    return bool(custom_kind(name))


def custom_file(name: str) -> Path | None:
    """The file of a user's own model that a command line names: FILE of `onnx:FILE`; None for any other name."""
    return Path(name.partition(":")[2]) if is_custom(name) else None


def _is_plain(name: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name))


def _are_two(names: Sequence[str]) -> bool:
    return all(names) and len(names) == len({*names}) == 2


def _between(low: float, high: float) -> Limit:
    return Limit(lambda value: low <= value <= high, f"from {low:g} to {high:g}")


@dataclass(frozen=True)
class Contract(Record):
    """What a model takes and gives.

    crop: as in `align.named_crop`. box_factor, box_side: of the crop `box`, as in `BoxCrop`.
    channels: their order.
    mean, scale: the input is `(255 · picture − mean) / scale`, in the order of `channels`.
    name: in manifests, after `onnx:` or `torch:`.
    size: of the crop, px; None where the file says it.
    score, license: as in `RecognizerSpec`. threshold: its `recommended_threshold`.
    layers: modules of an exported program with outputs that serve as φ.
    output: number of the output that is the template, where there are several.
    gives: of a judge: what its numbers are. classes: a judge's two; a single number is of the second.
    """

    REMEDY: ClassVar[str] = "see docs/own-models.md"

    crop: Literal["arcface", "dlib", "box"]
    channels: Literal["RGB", "BGR"]
    mean: tuple[float, float, float]
    scale: tuple[float, float, float]
    name: Annotated[str, Limit(_is_plain, "a name of letters, digits, '.', '_' and '-'")]
    size: Annotated[int, _between(8, 4096)] | None = None
    box_factor: Annotated[float, _between(0.1, 10)] = 1.0
    box_side: BoxSide = "longer"
    score: Literal["cosine", "negative-euclidean"] = "cosine"
    license: str = "not stated"
    threshold: float | None = None
    layers: Annotated[tuple[str, ...], Limit(all, "names of modules")] = ()
    output: Count | None = None
    gives: Literal["probability", "logit"] | None = None
    classes: Annotated[tuple[str, ...], Limit(_are_two, "two names")] | None = None

    def how_to_crop(self, size: int) -> Crop:
        """The crop at `size` pixels."""
        return named_crop(self.crop, size, self.box_factor, self.box_side)

    def describe(self) -> dict[str, Any]:
        """JSON for a manifest: all that decides a template."""
        described = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in _BESIDE}
        return {name: value for name, value in described.items() if value is not None}


def read_contract(model: Path, path: Path | None) -> Contract:
    """The contract of a model file: that in `path`, else in the file with the model's own name and `.json` behind it.

    Raises UsageError: neither is there. BadInput: naming the file: no JSON object, a field that is missing, unknown or
    malformed.
    """
    path = path or model.with_name(f"{model.name}.json")
    if not path.exists():
        raise UsageError(
            f"{model}: its input is not described: write {path}, a JSON object with crop, channels, mean, scale "
            "(docs/own-models.md), or name one with --spec"
        )
    return parse_contract(read_json(path), str(path), model.stem)


def recorded_contract(identity: RecognizerId) -> Contract:
    """The contract in a recorded identity. Raises BadInput where it has none."""
    where, name = f"the description of {identity.name}", identity.name.partition(":")[2]
    if identity.contract is None:
        raise BadInput(f"{where} lacks its contract: make the store again")
    beside = {key: getattr(identity, key) for key in _BESIDE}
    return parse_contract({**identity.contract, **beside, "name": name}, where, name)


def parse_contract(value: Any, where: str, default_name: str) -> Contract:
    """A contract from a JSON object. where: for messages. Raises BadInput naming the field."""
    if not isinstance(value, dict):
        raise BadInput(f"{where}: holds no JSON object")
    value = {"name": default_name} | {key: each for key, each in value.items() if each is not None}
    known = [each.name for each in fields(Contract)]
    if unknown := sorted(set(value) - set(known)):
        raise BadInput(f"{where}: there is no field {unknown[0]!r}; there are {', '.join(known)}")
    for key in {"mean", "scale"} & value.keys():
        numbers = [value[key]] * 3 if is_number(value[key]) else value[key]
        if not isinstance(numbers, list | tuple) or len(numbers) != 3 or not all(map(is_number, numbers)):
            raise BadInput(f"{where}: field {key!r} is not a number, or one for each channel; {Contract.REMEDY}")
        value[key] = tuple(map(float, numbers))
    contract = Contract.from_json(where, value)
    if any(each < 1 for each in contract.scale) or any(0 < abs(each) < 1 for each in contract.mean):
        raise BadInput(
            f"{where}: mean and scale are of pictures from 0 to 255, not {contract.mean} and {contract.scale}; "
            "multiply both by 255"
        )
    if contract.crop != "box" and (contract.box_factor, contract.box_side) != (1, "longer"):
        raise BadInput(f"{where}: box_factor and box_side go with the crop box")
    return contract


def named_networks(options: Sequence[str]) -> dict[str, Path | None]:
    """What `--phi` names: name → file, None where a package has it; for a user's own model its file is enough.

    `torch:FILE` and `torch:FILE:LAYER+LAYER` become `torch:NAME=FILE` and so on, by the name in its contract. Raises
    UsageError, BadInput: as `named` and `read_contract`.
    """
    spelled = []
    for text in options:
        kind = custom_kind(text)
        file, colon, layers = text.removeprefix(kind).partition(":")
        if kind and "=" not in text and Path(file).is_file():
            text = f"{kind}{read_contract(Path(file), None).name}{colon}{layers}={file}"
        spelled.append(text)
    return {name: None if file == name else Path(file) for name, file in named(spelled, "--phi").items()}
