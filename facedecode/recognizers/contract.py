"""What a user's own model expects of its pictures: a small JSON file beside the model, or a preset. Free of torch.

Nothing that decides a template is guessed: a wrong mean gives templates that look right and are not.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from facedecode.errors import BadInput, FacedecodeWarning, UsageError
from facedecode.identity import RecognizerId, contract_checksum, impossible_threshold
from facedecode.options import named
from facedecode.pictures.align import BoxSide, Crop, PointCrop, Points, named_crop
from facedecode.recognizers.presets import OTHER_NAMES, PRESET_NAMES, PRESETS
from facedecode.records import Limit, Record, is_number, read_json

CUSTOM = ("onnx:", "torch:")
"""Beginnings of the names of users' own models: `onnx:FILE` on the command line, `onnx:NAME` in a manifest."""
TEMPLATES_ONLY = "given:"
"""Beginning of the names of recognizers of which there are only templates here."""
_ENDINGS = {".onnx": "onnx:", ".pt2": "torch:", ".pt": "torch:"}
# Fields that a manifest has beside, not in, the contract: they decide no template.
_BESIDE = ("name", "license", "layers", "threshold", "training_people")
# What others call a field; what is like a field's name needs no entry.
_CALLED_OTHERWISE = {
    "std": "scale",
    "stdev": "scale",
    "color": "channels",
    "format": "layout",
    "image_size": "size",
    **dict.fromkeys(("people", "identities", "trained_on"), "training_people"),
}
_SMALLEST, _LARGEST = 8, 4096  # px of a picture's side
# A scale below is the factor 1/128 or 1/255, between it and 1 a standard deviation of pictures from 0 to 1.
_FACTOR = 0.02
_LARGEST_SCALE = 1024
_LAYOUTS = {"NCHW": (1, 2, 3), "NHWC": (3, 1, 2)}  # the axes of channels, height and width
_LEAST_APART = 0.02  # of points of a face, in shares of the side
_FACE = (
    "five points [x, y] in shares of the side, 0 to 1: the eye on the left, the one on the right, the nose, and the "
    "corners of the mouth, left and right"
)


def custom_kind(name: str) -> str:
    """`onnx:` or `torch:` where a recognizer's name is that of a user's own model, else empty."""
    return next((prefix for prefix in CUSTOM if name.startswith(prefix)), "")


def is_custom(name: str) -> bool:
    """Whether a recognizer's name is that of a user's own model."""
    return bool(custom_kind(name))


def custom_file(name: str) -> Path | None:
    """The file of a user's own model that a command line names: FILE of `onnx:FILE`; None for any other name."""
    return Path(name.partition(":")[2]) if is_custom(name) else None


def full_model_name(name: str) -> str:
    """A recognizer's name as a user gives it, with what `net.onnx`, `net.pt2` or `net.pt` is before it.

    `net.onnx` is `onnx:net.onnx`; any other name, and that of a folder, stays.
    """
    if is_custom(name) or name.startswith(TEMPLATES_ONLY) or Path(name).is_dir():
        return name
    return _ENDINGS.get(Path(name).suffix.lower(), "") + name


def _is_plain(name: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name))


def _are_two(names: Sequence[str]) -> bool:
    return all(names) and len(names) == len({*names}) == 2


def _is_output(value: object) -> bool:
    return (type(value) is int and value >= 0) or (isinstance(value, str) and value != "")


def _are_a_face(points: Points) -> bool:
    if len(points) != 5 or not all(-0.5 <= share <= 1.5 for point in points for share in point):
        return False
    (left, left_eye), (right, right_eye), _, (left_corner, left_mouth), (right_corner, right_mouth) = points
    apart = (right - left, right_corner - left_corner, (left_mouth + right_mouth - left_eye - right_eye) / 2)
    return min(apart) >= _LEAST_APART


def _between(low: float, high: float) -> Limit:
    return Limit(lambda value: low <= value <= high, f"from {low:g} to {high:g}")


@dataclass(frozen=True)
class Contract(Record):
    """What a model takes and gives.

    crop: as in `align.named_crop`; or `points`: by a similarity to points of its own. box_factor, box_side: of the crop
        `box`, as in `BoxCrop`. points: of the crop `points`, five (x, y) in shares of the side, as in `PointCrop`.
    channels: their order; `gray` is one channel, the luma of ITU-R 601: 0.299 R + 0.587 G + 0.114 B, not rounded.
    mean, scale: the input is `(255 · picture − mean) / scale`, in the order of `channels`.
    name: in manifests, after `onnx:` or `torch:`.
    size: height and width of the input, px; None where the file says it. The crop is a square of the longer; of that
        the input is the middle.
    layout: of the input's axes; None for NCHW, or what the file says.
    score, license: as in `RecognizerSpec`. threshold: its `recommended_threshold`.
    layers: modules of an exported program with outputs that serve as φ.
    output: number or name of the output that is the template, where there are several.
    training_people: names of the people that it was trained on, as far as the user knows them.
    gives: of a judge: what its numbers are. classes: a judge's two; a single number is of the second.
    preset: the fields that are not said are those of this preset; not recorded.
    """

    REMEDY: ClassVar[str] = "see docs/own-models.md"

    crop: Literal["arcface", "dlib", "box", "points"]
    channels: Literal["RGB", "BGR", "gray"]
    mean: tuple[float, float, float]
    scale: tuple[float, float, float]
    name: Annotated[str, Limit(_is_plain, "a name of letters, digits, '.', '_' and '-'")]
    size: tuple[int, int] | None = None
    layout: Literal["NCHW", "NHWC"] | None = None
    box_factor: Annotated[float, _between(0.1, 10)] = 1.0
    box_side: BoxSide = "longer"
    score: Literal["cosine", "negative-euclidean"] = "cosine"
    license: str = "not stated"
    threshold: float | None = None
    layers: Annotated[tuple[str, ...], Limit(all, "names of modules")] = ()
    output: Annotated[Any, Limit(_is_output, "a number from 0, or a name")] = None
    training_people: Annotated[tuple[str, ...], Limit(all, "names of people")] = ()
    gives: Literal["probability", "logit"] | None = None
    classes: Annotated[tuple[str, ...], Limit(_are_two, "two names")] | None = None
    points: Annotated[tuple[tuple[float, float], ...], Limit(_are_a_face, _FACE)] | None = None
    preset: str | None = None

    def how_to_crop(self, size: int) -> Crop:
        """The crop at `size` pixels."""
        if self.points is not None:
            return PointCrop(size, tuple((x * size, y * size) for x, y in self.points))
        return named_crop(self.crop, size, self.box_factor, self.box_side)

    def describe(self) -> dict[str, Any]:
        """JSON for a manifest: all that decides a template."""
        aside = {*_BESIDE, "preset"}
        described = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in aside}
        if self.size is not None and self.size[0] == self.size[1]:
            described["size"] = self.size[0]
        return {name: value for name, value in described.items() if value is not None}

    def fitted_to(self, path: Path, shape: Sequence[int | None] | None) -> Contract:
        """The contract with the size, the layout and the channels of a network's input.

        shape: of the input in the file, the batch first, None for a size that is free; None where the file has none.

        Raises UsageError: neither says the size, or the file and a preset not the layout. BadInput: the file takes no
        pictures, or others than it says.
        """
        try:
            return self._fitted_to(path, shape)
        except BadInput as error:
            if self.preset is None:
                raise
            fitting = ", ".join(each.preset for each in fitting_presets(path, shape) if each.preset != self.preset)
            remedy = f"of the presets it fits {fitting}" if fitting else "no preset fits; describe it in a JSON file"
            raise BadInput(f"{error}; {remedy} (docs/own-models.md)") from None

    def _fitted_to(self, path: Path, shape: Sequence[int | None] | None) -> Contract:
        layouts = [self.layout or "NCHW"] if shape is None else _layouts_of(shape)
        shape = (None,) * 4 if shape is None else shape
        takes = f"{path}: takes ({', '.join('n' if n is None else str(n) for n in shape)})"
        if not layouts:
            pictures = "pictures (n, C, H, W) or (n, H, W, C) with 1 or 3 channels"
            raise BadInput(f"{takes}, no {pictures}; export it for these")
        if self.layout is None and len(layouts) > 1:
            if self.preset:
                own = f'{{"preset": "{self.preset}", "layout": "NCHW"}}'
                raise UsageError(f"{takes}, which may be NCHW or NHWC; say which by a JSON file with {own} and --spec")
            raise BadInput(f"{takes}; say by 'layout' in its contract if this is NCHW or NHWC")
        if self.layout not in (None, *layouts):
            raise BadInput(f"{takes}, which is {layouts[0]}, and {self._who} says layout {self.layout}")
        layout = self.layout or layouts[0]
        channels, height, width = (shape[axis] for axis in _LAYOUTS[layout])
        agreed: dict[str, Any] = {
            "size": self._agreed_size(path, (height, width)),
            "channels": self._agreed_channels(path, channels),
            # PyTorch's own layout needs no word where the file leaves no doubt.
            "layout": layout if layout == "NHWC" or len(layouts) > 1 else None,
        }
        return replace(self, **agreed)

    @property
    def _who(self) -> str:
        return f"the preset {self.preset}" if self.preset else "its contract"

    def _agreed_size(self, path: Path, sides: Sequence[int | None]) -> tuple[int, int]:
        if self.size is None and None in sides:
            raise UsageError(
                f"{path}: takes pictures of any size; add the 'size' that it was trained on to its contract"
            )
        height, width = (side or said for side, said in zip(sides, self.size or (0, 0), strict=True))
        # A single number is the crop's side; of the presets, only the crop of ArcFace is seen in part.
        whole = () if self.preset and self.crop != "arcface" else (2 * (max(height, width),),)
        if self.size not in (None, (height, width), *whole):
            raise BadInput(
                f"{path}: takes pictures of {_sides(height, width)}, and {self._who} says size {_sides(*self.size)}"
            )
        return height, width

    def _agreed_channels(self, path: Path, channels: int | None) -> Literal["RGB", "BGR", "gray"]:
        if channels == 3 and self.channels == "gray":
            raise BadInput(f"{path}: takes three channels, and its contract says gray; say RGB or BGR there")
        if channels != 1 or self.channels == "gray":
            return self.channels
        _require_one_number(str(path), self)
        says = f"{path}: takes one channel, and {self._who} says {self.channels}"
        if self.preset:
            raise BadInput(says)
        warnings.warn(f"{says}: pictures are made gray (ITU-R 601); say gray there", FacedecodeWarning, stacklevel=2)
        return "gray"


def is_preset(spec: Path | str) -> bool:
    """Whether what `--spec` names is a preset; all else is a file, and `./arcface` one of that name."""
    return isinstance(spec, str) and spec in PRESET_NAMES


def require_spec(spec: Path | str) -> None:
    """Refuse what is neither a preset nor a file. Raises UsageError for a name, BadInput for a path."""
    text = str(spec)
    if is_preset(spec) or Path(text).is_file():
        return
    if Path(text).suffix or set(text) & set("/\\") or Path(text).exists():
        raise BadInput(f"{text}: no such file; give a JSON file, or a preset: {', '.join(PRESET_NAMES)}")
    near = [name for name in PRESET_NAMES if name.startswith(text.lower())]
    near = near or get_close_matches(text.lower(), PRESET_NAMES, 1)
    meant = f", did you mean {near[0]}?" if near else "."
    raise UsageError(f"--spec {text}: no preset and no file{meant} The presets are {', '.join(PRESET_NAMES)}")


def read_contract(model: Path, spec: Path | str | None, output: str | None = None) -> Contract:
    """The contract of a model file: a preset's, or that in a JSON file, by default FILE.json beside it.

    spec: a preset's name, or a JSON file. output: replaces the contract's.

    Raises UsageError: there is none. BadInput: naming the file: no JSON object, a field that is missing, unknown or
    malformed.
    """
    beside = has_contract_file(model)
    if spec is None and beside is None:
        raise UsageError(
            f"{model}: its input is not described: give a preset with --spec ({', '.join(PRESET_NAMES)}; 'facedecode "
            f"models --check' finds the best), or write {model}.json, a JSON object with crop, channels, mean, scale "
            "(docs/own-models.md)"
        )
    where: Path | str = spec or beside or ""
    if is_preset(where):
        held: dict[str, Any] = {"preset": str(where)}
    else:
        require_spec(where)
        held = read_json(Path(where))
    # A file may have any name, and manifests only plain ones.
    default_name = re.sub(r"[^A-Za-z0-9._-]+", "-", model.stem).strip("-._") or "model"
    return parse_contract(held | ({} if output is None else {"output": output}), str(where), default_name)


def has_contract_file(model: Path) -> Path | None:
    """The JSON file beside a model that describes it; None where there is none."""
    path = model.with_name(f"{model.name}.json")
    return path if path.exists() else None


def fitting_presets(path: Path, shape: Sequence[int | None] | None, output: str | None = None) -> list[Contract]:
    """The contracts of the presets that a file's input fits, fitted to it. shape: as in `Contract.fitted_to`."""
    found = []
    for name in PRESETS:
        with suppress(BadInput, UsageError):
            contract = read_contract(path, name, output)
            found.append(contract._fitted_to(path, shape))
    return found


def recorded_contract(identity: RecognizerId) -> Contract:
    """The contract in a recorded identity. Raises BadInput where it has none."""
    where, name = f"the description of {identity.name}", identity.name.partition(":")[2]
    if identity.contract is None:
        raise BadInput(f"{where} lacks its contract: make the store again")
    if identity.contract_sha256 not in (None, contract_checksum(identity.contract)):
        raise BadInput(f"{where}: its contract is not the one of its contract_sha256; make the store again")
    beside = {key: getattr(identity, key) for key in _BESIDE}
    return parse_contract({**identity.contract, **beside, "name": name}, where, name)


def parse_contract(value: Any, where: str, default_name: str) -> Contract:
    """A contract from a JSON object. where: for messages. Raises BadInput naming the field."""
    if not isinstance(value, dict):
        raise BadInput(f"{where}: holds no JSON object")
    if value.get("preset") is not None:
        value = {**_preset(value["preset"], where), **value}
    value = {"name": default_name} | {key: each for key, each in value.items() if each is not None}
    known = [each.name for each in fields(Contract)]
    if unknown := sorted(set(value) - set(known)):
        like = [_CALLED_OTHERWISE.get(unknown[0].lower()), *get_close_matches(unknown[0].lower(), known, 1)]
        meant = next((f", did you mean {name!r}?" for name in like if name), ".")
        raise BadInput(f"{where}: there is no field {unknown[0][:60]!r}{meant} There are {', '.join(known)}")
    for key in {"mean", "scale"} & value.keys():
        numbers = value[key] if isinstance(value[key], list | tuple) else [value[key]]
        numbers = [*numbers] * 3 if len(numbers) == 1 else numbers
        if len(numbers) != 3 or not all(map(is_number, numbers)):
            raise BadInput(f"{where}: field {key!r} is not a number, or one for each channel; {Contract.REMEDY}")
        value[key] = tuple(map(float, numbers))
    if "size" in value:
        sides = value["size"] if isinstance(value["size"], list | tuple) else [value["size"]] * 2
        if len(sides) != 2 or not all(type(side) is int and _SMALLEST <= side <= _LARGEST for side in sides):
            what = f"a whole number from {_SMALLEST} to {_LARGEST}, or two of them: [height, width]"
            raise BadInput(f"{where}: field 'size' is not {what}; {Contract.REMEDY}")
        value["size"] = tuple(sides)
    contract = Contract.from_json(where, value)
    if contract.points is not None:  # whole numbers would have another hash
        contract = replace(contract, points=tuple((float(x), float(y)) for x, y in contract.points))
    contract = replace(contract, box_factor=float(contract.box_factor))
    _require_units(where, contract.mean, contract.scale)
    if contract.channels == "gray":
        _require_one_number(where, contract)
    if contract.threshold is not None and (fault := impossible_threshold(contract.threshold, contract.score)):
        raise BadInput(f"{where}: {fault}")
    if contract.crop != "box" and (contract.box_factor, contract.box_side) != (1, "longer"):
        raise BadInput(f"{where}: box_factor and box_side go with the crop box")
    if (contract.crop == "points") != (contract.points is not None):
        raise BadInput(f"{where}: the crop points and the field 'points' go together; give both or neither")
    return contract


def _preset(name: Any, where: str) -> dict[str, Any]:
    if not isinstance(name, str) or name not in PRESET_NAMES:
        raise BadInput(f"{where}: field 'preset' is none of {', '.join(PRESET_NAMES)}")
    return PRESETS[OTHER_NAMES.get(name, name)]


def _require_units(where: str, mean: Sequence[float], scale: Sequence[float]) -> None:
    """Refuse a mean and a scale of another convention than `(picture - mean) / scale` of pictures from 0 to 255."""
    if all(each >= 1 for each in scale) and all(each == 0 or 1 <= each <= 255 for each in mean):
        if max(scale) <= _LARGEST_SCALE:
            return
        meant = "a scale is at most 1024"
    elif min(scale) <= 0:
        meant = "a scale is above 0"
    elif min(mean) < 0:
        meant = "it is subtracted: give a mean from 0 to 255"
    elif max(mean) > 255:
        meant = "a mean is from 0 to 255"
    elif max(scale) < _FACTOR:
        meant = f"the scale divides: for this factor give {_numbers([1 / each for each in scale])}"
    else:
        numbers = [_numbers([255 * each if max(of) <= 1 else each for each in of]) for of in (mean, scale)]
        meant = f"for pictures from 0 to 1, multiply by 255: mean {numbers[0]}, scale {numbers[1]}"
    raise BadInput(
        f"{where}: mean and scale are of pictures from 0 to 255, not {_numbers(mean)} and {_numbers(scale)}; {meant}"
    )


def _require_one_number(where: str, contract: Contract) -> None:
    if len({*contract.mean}) > 1 or len({*contract.scale}) > 1:
        raise BadInput(f"{where}: gray is one channel, and mean or scale have three numbers; give one of each")


def _layouts_of(shape: Sequence[int | None]) -> list[str]:
    """The layouts that pictures of a shape can have, by its sizes that are not free."""
    found = []
    for layout, axes in _LAYOUTS.items() if len(shape) == 4 else ():
        channels, *sides = (shape[axis] for axis in axes)
        if channels in (1, 3, None) and all(side is None or _SMALLEST <= side <= _LARGEST for side in sides):
            found.append(layout)
    return found


def _sides(height: int, width: int) -> str:
    return f"{height} px" if height == width else f"{height} x {width} px (height x width)"


def _numbers(values: Sequence[float]) -> str:
    texts = [f"{each:.6g}" for each in values]
    return texts[0] if len({*texts}) == 1 else f"({', '.join(texts)})"


def named_networks(options: Sequence[str]) -> dict[str, Path | None]:
    """What `--phi` names: name → file, None where a package has it; for a user's own model its file is enough.

    `torch:FILE` and `torch:FILE:LAYER+LAYER` become `torch:NAME=FILE` and so on, by the name in its contract. Raises
    UsageError, BadInput: as `named` and `read_contract`.
    """
    spelled = []
    for text in options:
        kind = custom_kind(text)
        file, colon, layers = text.removeprefix(kind).partition(":")
        kind = kind or custom_kind(full_model_name(file))
        if kind and "=" not in text and Path(file).is_file():
            text = f"{kind}{read_contract(Path(file), None).name}{colon}{layers}={file}"
        spelled.append(text)
    return {name: None if file == name else Path(file) for name, file in named(spelled, "--phi").items()}
