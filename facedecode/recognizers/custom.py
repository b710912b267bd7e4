"""A user's own model as a recognizer: `onnx:FILE` (black-box) and `torch:FILE` (white-box where gradients flow)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from facedecode.errors import BadInput, MissingWeights, UsageError, some_of
from facedecode.files import sha256_of
from facedecode.identity import RecognizerId, contract_checksum
from facedecode.recognizers.contract import (
    Contract,
    custom_kind,
    fitting_presets,
    read_contract,
    recorded_contract,
)
from facedecode.recognizers.custom_runtime import Network, open_network
from facedecode.recognizers.model_file import read_model_file
from facedecode.recognizers.presets import PRESETS
from facedecode.recognizers.recognizer import Recognizer
from facedecode.recognizers.spec import RecognizerSpec
from facedecode.records import plain

# Of a template's length: the largest difference that batching, or a second run, may make.
_SAME, _SAME_HALF = 1e-3, 1e-2
_LARGEST = 1e6
_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow's L


@dataclass(frozen=True)
class ModelFile:
    """A model of the user's, read and opened. kind: `onnx:` or `torch:`. sha256: of the file."""

    kind: str
    path: Path
    sha256: str
    network: Network

    @classmethod
    def open(cls, kind: str, path: Path, data: bytes, device: str) -> ModelFile:
        """data: the file's content. Raises MissingWeights, UsageError, BadInput: as `open_network`."""
        return cls(kind, path, sha256_of(data), open_network(kind, path, data, device))


class CustomRecognizer(Recognizer):
    """A model of the user's, tried on two pictures before any work.

    contract: what it expects, with its size.
    """

    def __init__(
        self,
        opened: ModelFile,
        contract: Contract,
        device: str = "cpu",
        precision: str = "fp32",
        judge: bool = False,
    ):
        """judge: it gives one number or two for a picture instead of a template.

        Raises UsageError, BadInput: sizes that contradict each other or are not known, or another contradiction, as
        `Contract.fitted_to`; bf16 or layers where the model has none; outputs that cannot be templates.
        """
        path = opened.path
        self.weights, self.device, self.precision = path, torch.device(device), precision
        self._judge = judge
        if judge != (contract.gives is not None):
            raise UsageError(f"{path}: 'gives' (probability, logit) is for a judge, not for a recognizer")
        if opened.kind == "onnx:" and precision != "fp32":
            raise UsageError(f"--precision {precision}: an ONNX model computes as it was exported; leave it out")
        self.net, self.weights_sha256 = opened.network, opened.sha256
        self._coarse = self.net.dtype.itemsize < 4
        self.contract = contract = contract.fitted_to(path, self.net.shape)
        self._batches = self.net.batches
        count = 1 if contract.channels == "gray" else 3
        self._mean, self._scale = (self._channels(each)[:, :count] for each in (contract.mean, contract.scale))
        self.spec = RecognizerSpec(
            name=opened.kind + contract.name,
            dim=0,  # not known yet
            crop=contract.how_to_crop(max(contract.size)),
            mean=contract.mean,
            scale=contract.scale,
            score=contract.score,
            license=contract.license,
            architecture="",
            obtain="it is your own model: pass its file with --weights",
            channel_order=contract.channels,
            feature_layers=contract.layers,
            recommended_threshold=contract.threshold,
            training_people=contract.training_people,
        )
        for layer in contract.layers:
            if layer not in self.layer_names():
                raise BadInput(f"{path}: has no layer {layer!r}; it has {', '.join(self.layer_names()[:8])}, …")
        self.spec = dataclasses.replace(self.spec, dim=self._tried_dim())
        self.white_box = self.net.gradients and self._gradients_flow()

    @property
    def input_size(self) -> tuple[int, int]:
        assert self.contract.size is not None  # `fitted_to` saw to it
        return self.contract.size

    def layer_names(self) -> tuple[str, ...]:
        if not self.net.layers:
            raise UsageError(f"{self.spec.name}: {self.net.no_layers}: choose another --phi")
        return self.net.layers

    def features(self, crops: Tensor) -> list[Tensor]:
        return self._with_maps(crops, with_template=False)[1]

    def embed_with_features(self, crops: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self._with_maps(crops, with_template=True)

    def describe(self) -> RecognizerId:
        contract = self.contract
        described = plain(contract.describe())
        further = {"contract": described, "contract_sha256": contract_checksum(described)}
        further |= {"layers": contract.layers, "threshold": contract.threshold}
        return RecognizerId.from_json(self.spec.name, super().describe().as_json() | further)

    def _run(self, crops: Tensor) -> Tensor:
        if not len(crops):
            return crops.new_zeros(0, self.spec.dim)
        with self._autocast():
            parts = [self._template(self._output(part), len(part))[:count] for part, count in self._parts(crops)]
        return torch.cat(parts)

    def _output(self, part: Tensor) -> Any:
        """What the network gives. Raises BadInput: it fails; some only do so on certain pictures."""
        try:
            return self.net(part)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise self._cannot(error) from None

    def _with_maps(self, crops: Tensor, with_template: bool) -> tuple[Tensor | None, list[Tensor]]:
        templates, maps = [], []
        with self._autocast():
            for part, count in self._parts(crops):
                try:
                    kept, output = self.net.maps(part, self.spec.feature_layers, with_template)
                except RuntimeError as error:
                    side = crops.shape[-1]
                    if side == self.spec.crop.size:
                        raise
                    raise UsageError(
                        f"{self.spec.name}: its layers do not take a part of {side} px ({str(error)[:80]}): leave "
                        "--local-perceptual-weight at 0"
                    ) from None
                maps.append([each[:count] for each in kept])
                if with_template:
                    templates.append(self._template(output, len(part))[:count])
        return torch.cat(templates) if templates else None, [torch.cat(each) for each in zip(*maps, strict=True)]

    def _normalized(self, crops: Tensor) -> Tensor:
        """The network's input, channels first: of crops, or of parts, the middle in the proportions of its size."""
        longer = max(self.contract.size)
        height, width = (round(n * side / longer) for n, side in zip(crops.shape[2:], self.contract.size, strict=True))
        top, left = (crops.shape[2] - height) // 2, (crops.shape[3] - width) // 2
        crops = crops[:, :, top : top + height, left : left + width]
        if self.contract.channels == "gray":
            crops = (crops * self._channels(_LUMA)).sum(1, keepdim=True)
        return super()._normalized(crops)

    def _parts(self, crops: Tensor) -> list[tuple[Tensor, int]]:
        """Normalized pictures in batches that the network takes, the last filled up; how many of each count."""
        x = self._normalized(crops)
        if self.contract.layout == "NHWC":
            x = x.permute(0, 2, 3, 1)
        x = x.to(self.net.dtype).contiguous()
        fewest, most = self._batches
        parts = []
        for part in x.split(most or len(x)):
            missing = fewest - len(part)
            padded = torch.cat([part, part[-1:].expand(missing, -1, -1, -1)]) if missing > 0 else part
            parts.append((padded, len(part)))
        return parts

    def _template(self, outputs: Any, count: int) -> Tensor:
        """The output of the network for a batch, as float32 (count, dim), whichever axes of length 1 it has beside."""
        path, outputs = self.weights, self._chosen(outputs)
        if not isinstance(outputs, Tensor) or not outputs.is_floating_point():
            what = outputs.dtype if isinstance(outputs, Tensor) else f"a {type(outputs).__name__}"
            raise BadInput(f"{path}: gives {what}, not numbers (n, d); export one that gives these")
        shape = tuple(outputs.shape)
        if count == 1 and shape[:1] != (1,):
            shape = (1, *shape)  # exported with a squeeze: a single picture has no axis of its own
        if shape[:1] != (count,) or sum(n != 1 for n in shape[1:]) > 1 or not outputs.numel():
            raise BadInput(f"{path}: gives {tuple(outputs.shape)} for {count} pictures, not ({count}, d)")
        self._coarse |= outputs.dtype.itemsize < 4
        return outputs.reshape(count, -1).float()

    def _chosen(self, outputs: Any) -> Any:
        """The output that the contract chooses, by number or by name; names that are numbers count as names first."""
        names: Sequence[str] = self.net.outputs
        if isinstance(outputs, dict):
            names, outputs = [str(name) for name in outputs], list(outputs.values())
        elif not isinstance(outputs, tuple | list):
            outputs = [outputs]
        wanted = self.contract.output
        if wanted is None and len(outputs) == 1:
            return outputs[0]
        if isinstance(wanted, str):
            wanted = names.index(wanted) if wanted in names else int(wanted) if wanted.isdecimal() else wanted
        if isinstance(wanted, int) and wanted < len(outputs):
            return outputs[wanted]
        named = names or [str(number) for number in range(len(outputs))]
        shapes = [tuple(getattr(each, "shape", ())) for each in outputs]
        listed = some_of([f"{name} {shape}" for name, shape in zip(named, shapes, strict=False)], 8)
        has = "" if wanted is None else f"has no output {self.contract.output!r}; it "
        gives = f"{self.weights}: {has}gives {len(outputs)} output{'s' * (len(outputs) != 1)} ({listed})"
        raise BadInput(f"{gives}; choose one with --template-output, or 'output' in its contract")

    def _tried_dim(self) -> int:
        """The length of a template, by two pictures. Raises BadInput where the outputs cannot be templates."""
        path, pictures = self.weights, self._pictures()
        with torch.no_grad():
            both = self._first_batch(pictures)
            alone = torch.cat([self._run(each[None]) for each in pictures])
        if not both.isfinite().all() or not both.abs().max() < _LARGEST:
            raise BadInput(f"{path}: gives NaN, infinity or huge numbers; are mean, scale and channels right?")
        length = both.norm(dim=1).max()
        same = _SAME_HALF if self._coarse else _SAME
        if (alone - both).norm(dim=1).max() > same * length:
            raise BadInput(f"{path}: gives a picture other numbers in another batch; export it after .eval()")
        if self._judge:
            return both.shape[1]
        if (both[0] - both[1]).abs().max() <= 1e-6 * length:
            raise BadInput(f"{path}: gives the same numbers for two different pictures; are mean and scale right?")
        if both.shape[1] < 2:
            raise BadInput(f"{path}: gives one number for a picture, not a template")
        if (both >= 0).all() and ((both.sum(1) - 1).abs() < 1e-3).all():
            raise BadInput(f"{path}: gives probabilities of {both.shape[1]} classes; export it without the softmax")
        return both.shape[1]

    def _first_batch(self, pictures: Tensor) -> Tensor:
        """Outputs for the two pictures; tries single pictures where the file does not tell which batches it takes."""
        try:
            return self._run(pictures)
        except BadInput as error:
            if self._batches != (1, None):
                raise
            first = error
        self._batches = (1, 1)
        try:
            return self._run(pictures)
        except BadInput:
            raise first from None

    def _cannot(self, error: Exception) -> BadInput:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        (height, width), channels = self.contract.size, self._mean.shape[1]
        sizes = (height, width, channels) if self.contract.layout == "NHWC" else (channels, height, width)
        taken = f"(n, {', '.join(map(str, sizes))})"
        return BadInput(f"{self.weights}: cannot take {taken} ({lines[-1][:160] if lines else error})")

    def _gradients_flow(self) -> bool:
        with torch.inference_mode(False), torch.enable_grad():
            pictures = self._pictures().requires_grad_()
            try:
                self._run(pictures).square().sum().backward()
            except (RuntimeError, BadInput):  # exported under no_grad, or an operator without a derivative
                return False
        return pictures.grad is not None and bool(pictures.grad.isfinite().all() and pictures.grad.any())

    def _pictures(self) -> Tensor:
        """Two smooth pictures, (2, 3, S, S) in [0, 1]."""
        looks = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
        size = (self.spec.crop.size, self.spec.crop.size)
        return F.interpolate(looks, size, mode="bilinear", align_corners=False).to(self.device)


def load_custom(
    name: str,
    weights: Path | str | None = None,
    device: str = "cpu",
    precision: str = "fp32",
    contract: Path | str | RecognizerId | None = None,
    judge: bool = False,
    output: str | None = None,
) -> CustomRecognizer:
    """A user's own model.

    Args:
        name: `onnx:FILE` or `torch:FILE`; with `weights`, `onnx:NAME` or `torch:NAME`, as a manifest has it.
        contract: a preset, a JSON file, or the identity in a manifest; FILE.json if None.
        judge: see `CustomRecognizer`.
        output: which of the model's outputs is the template, in place of the contract's.

    Raises MissingWeights: no file, or ONNX Runtime is missing. UsageError, BadInput: as `read_contract` and
    `CustomRecognizer`; another file than the recorded one.
    """
    kind = custom_kind(name)
    called = name.removeprefix(kind)
    if isinstance(contract, RecognizerId):
        if weights is None:
            # What a file records is data: it names no other file to open, and no program to run.
            raise MissingWeights(
                f"{name}: a user's own model, and its recorded name opens no file; give --weights FILE"
            )
        path, expected = _present(name, weights), recorded_contract(contract)
        data = read_model_file(path)
        if (sha256 := sha256_of(data)) != contract.weights_sha256:
            recorded = str(contract.weights_sha256)[:12]
            raise BadInput(f"{path}: not the file of {name} (sha256 {sha256[:12]}…, expected {recorded}…)")
    else:
        path = _present(name, called if weights is None else weights)
        data, expected = read_model_file(path), read_contract(path, contract, output)
        if weights is not None and expected.name != called:
            raise UsageError(
                f"{path}: its contract calls it {expected.name!r}, not {called!r}; say {kind}{expected.name}"
            )
    return CustomRecognizer(ModelFile.open(kind, path, data, device), expected, device, precision, judge)


def load_under_presets(
    name: str, weights: Path | str | None = None, device: str = "cpu", output: str | None = None
) -> list[CustomRecognizer]:
    """A user's own model under each preset that its input fits. name, weights, output: as in `load_custom`.

    Raises MissingWeights, UsageError: as `load_custom`. BadInput: it fits none, or cannot be used under any.
    """
    kind = custom_kind(name)
    path = _present(name, name.removeprefix(kind) if weights is None else weights)
    opened = ModelFile.open(kind, path, read_model_file(path), device)
    contracts = fitting_presets(path, opened.network.shape, output)
    if not contracts:
        read_contract(path, next(iter(PRESETS))).fitted_to(path, opened.network.shape)  # says what it takes
    found: list[CustomRecognizer] = []
    first: BadInput | None = None
    for contract in contracts:
        try:
            found.append(CustomRecognizer(opened, contract, device))
        except BadInput as error:  # of TorchScript, nothing but the trial tells the size
            first = first or error
    if first and not found:
        raise first
    return found


def _present(name: str, file: Path | str) -> Path:
    if not (path := Path(file)).exists():
        raise MissingWeights(f"{name}: there is no file {path}; name the file of your model with --weights")
    return path
