"""Weights that others trained, read safely: tensors and nothing else, and exactly those that the network has.

A file is safetensors, or torch's own format (zip or legacy) read with `weights_only`: code in a pickle is never run.
"""

from __future__ import annotations

import math
import pickle
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facedecode.errors import BadInput, FacedecodeWarning, some_of

if TYPE_CHECKING:
    from torch import Tensor, nn

# Where training scripts put the tensors in their checkpoints, and what they put before the names.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "backbone", "weights")
PREFIXES = (
    *("module.", "_orig_mod.", "model.", "backbone.", "net.", "network."),
    *("encoder.", "base_model.", "feature_extractor."),
)
# Classifiers, and what losses train beside a network: no template goes through them.
HEADS = (
    *("arcface.", "classifier.", "criterion.", "fc.", "fc6.", "fc7.", "fc8."),
    *("head.", "logits.", "loss.", "margin.", "metric_fc."),
)
_COUNTER = "num_batches_tracked"  # of batch normalization: no output depends on it, and conversions leave it out
_STAND_INS = {  # first bytes of what is often found in the place of a model's file
    b"version https://git-lfs": "is a git-LFS pointer, not the file itself: run 'git lfs pull', or download it",
    b"<": "is a web page, not the file itself: download that",
    b"{": "is text, not a model's file: download that",
}


@dataclass(frozen=True)
class Layout:
    """How a checkpoint names the layers of a network.

    name: for messages.
    layers: the file's name of a layer → the network's; other layers keep their names.
    heads: tensors that are left out begin like this.
    turned_first: the first convolution, if the file has its channels in the other order (BGR for RGB).
    refused: why a file of this layout is not taken, and what to do instead.
    uncounted: a warning where batch normalization has no counters, which is the mark of a converted file.
    """

    name: str = "the network itself"
    layers: Mapping[str, str] = field(default_factory=dict)
    heads: tuple[str, ...] = ()
    turned_first: str | None = None
    refused: str | None = None
    uncounted: str | None = None

    def rename(self, key: str) -> str:
        """The network's name of a tensor that the file calls `key`."""
        layer, dot, kind = key.rpartition(".")
        return self.layers.get(layer, layer) + dot + kind


def refuse_stand_in(path: Path, head: bytes) -> None:
    """Raise BadInput for an empty file, a git-LFS pointer, a web page or JSON. head: its first 64 bytes or more."""
    if not head:
        raise BadInput(f"{path}: is empty; download it again")
    for start, reason in _STAND_INS.items():
        if head.lstrip().lower().startswith(start):
            raise BadInput(f"{path}: {reason}")


def kind_of_weights(path: Path) -> str:
    """`safetensors`, `zip` (torch) or `pickle` (torch before 1.6), by a file's first bytes. Free of torch.

    Raises BadInput: it is none of them, or unreadable.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
            size = path.stat().st_size
    except OSError as error:
        raise BadInput(f"{path}: not readable ({error.strerror})") from None
    # First of all: the length that such a file begins with can look like anything.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size:
        return "safetensors"
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head.startswith(b"\x80"):
        return "pickle"
    refuse_stand_in(path, head)
    raise BadInput(f"{path}: is neither a safetensors nor a torch file, or it is damaged; convert or download it again")


def read_tensors(path: Path, content: bytes | None = None) -> dict[str, Tensor]:
    """The tensors of a state dict's file by their names, on the CPU, as they are.

    content: of the file, safetensors, where it was read already.

    Raises BadInput: not weights, truncated or damaged, more than tensors (which is never run), or several networks.
    """
    is_safetensors = content is not None or kind_of_weights(path) == "safetensors"
    networks = _unwrap(_read_safetensors(path, content) if is_safetensors else _read_torch(path))
    if not networks:
        raise BadInput(
            f"{path}: holds no state dict (names and tensors), at the top or as {some_of(WRAPPERS)}; "
            "save model.state_dict()"
        )
    first, *others = networks.values()
    if not all(_are_equal(first, other) for other in others):
        raise BadInput(f"{path}: holds several networks, as {' and as '.join(networks)}; save the one you want")
    return first


def load_into(
    net: nn.Module, path: Path, layouts: Sequence[Layout] = (Layout(),), content: bytes | None = None
) -> nn.Module:
    """`net` with the tensors of a file. It can be built on torch's device `meta`, which costs nothing.

    layouts: those that a file may have; the one that gives the most of the network's tensors is taken.
    content: as in `read_tensors`.

    Raises BadInput: as `read_tensors`; or tensors are missing, unexpected or of another shape (listed), or not finite.
    """
    import torch

    expected = net.state_dict()
    read = _without_prefixes(read_tensors(path, content), expected)
    layout = max(layouts, key=lambda each: sum(each.rename(key) in expected for key in read))
    if layout.refused:
        raise BadInput(f"{path}: {layout.refused}")
    others = [key for key in read if layout.rename(key) not in expected]
    tensors = {layout.rename(key): tensor for key, tensor in read.items() if key not in others}
    if len(tensors) + len(others) < len(read):
        raise BadInput(f"{path}: names a layer twice, as {layout.name} does and otherwise; give one network's weights")
    if differences := _differences(expected, tensors, others, layout.heads):
        taken = ", ".join(each.name for each in layouts if not each.refused)
        raise BadInput(f"{path}: not these weights: tensors {differences}; expected the layout of {taken}")
    if layout.uncounted and not any(key.endswith(_COUNTER) for key in read):
        warnings.warn(f"{path}: {layout.uncounted}", FacedecodeWarning, stacklevel=2)
    for name, tensor in expected.items():
        tensors[name] = tensors.get(name, torch.zeros(tensor.shape)).to(tensor.dtype)
        if tensor.is_floating_point() and tensor.numel() and not _is_finite(tensors[name]):
            raise BadInput(f"{path}: {name} holds NaN or Inf: training diverged, or the file is damaged; give another")
    if layout.turned_first:
        tensors[layout.turned_first] = tensors[layout.turned_first].flip(1)
    # Copied, or where there is nothing to copy to, taken as they are.
    net.load_state_dict(tensors, assign=any(tensor.is_meta for tensor in expected.values()))
    return net


def _differences(
    expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], others: Sequence[str], heads: tuple[str, ...]
) -> str:
    """How a file's tensors differ from the network's, for a message; empty where they do not, apart from heads."""
    import torch

    wrong = []
    for name, tensor in tensors.items():
        wanted = expected[name]
        if tensor.layout != torch.strided or tensor.is_meta:
            wrong.append(f"{name}: no dense numbers")
        elif tensor.shape != wanted.shape:
            wrong.append(f"{name}: {_shape(tensor)}, not {_shape(wanted)}")
        elif tensor.dtype != wanted.dtype and not (tensor.is_floating_point() and wanted.is_floating_point()):
            wrong.append(f"{name}: {str(tensor.dtype).removeprefix('torch.')} numbers")
    lists = {
        "missing": [name for name in expected if name not in tensors and not name.endswith(_COUNTER)],
        "unexpected": [name for name in others if not name.startswith(heads)],
        "of another shape or type": wrong,
    }
    return "; ".join(f"{len(names)} {kind} ({some_of(sorted(names))})" for kind, names in lists.items() if names)


def _read_safetensors(path: Path, content: bytes | None) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load, load_file

    try:
        return load_file(path) if content is None else load(content)
    except (SafetensorError, OSError, ValueError) as error:
        raise BadInput(f"{path}: not a readable safetensors file ({_line(error)}); download it again") from None


def _read_torch(path: Path) -> Any:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on old formats
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "nsupported" in str(error) or "WeightsUnpickler error" in str(error):
            raise BadInput(
                f"{path}: holds more than tensors, and such a pickle can run code: it was not loaded. Where you trust "
                "it, save its model.state_dict() as safetensors"
            ) from None
        raise BadInput(f"{path}: damaged, or no file of torch's ({_line(error)}); download it again") from None
    except Exception as error:  # torch raises many kinds, KeyError and AttributeError among them, on damaged files
        raise BadInput(f"{path}: truncated or damaged ({_line(error)}); download it again") from None


def _unwrap(state: Any, place: str = "") -> dict[str, dict[str, Tensor]]:
    """The state dicts in a checkpoint, by where they are in it (`state_dict.model`, at the top '')."""
    import torch

    if not isinstance(state, Mapping):
        return {}
    if state and all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in state.items()):
        return {place: dict(state)}
    networks: dict[str, dict[str, Tensor]] = {}
    for key in WRAPPERS:
        networks |= _unwrap(state.get(key), f"{place}.{key}" if place else key)
    return networks


def _are_equal(state: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two state dicts are one, saved under two names."""
    import torch

    def same(x: Tensor, y: Tensor) -> bool:
        dense = x.layout == y.layout == torch.strided and not (x.is_meta or y.is_meta)
        return dense and x.dtype == y.dtype and torch.equal(x, y)

    return state.keys() == other.keys() and all(same(tensor, other[name]) for name, tensor in state.items())


def _without_prefixes(tensors: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without the prefix that all of their names have, those of heads apart."""
    while not tensors.keys() & expected.keys():
        body = [key for key in tensors if not key.startswith(HEADS)]
        prefix = next((p for p in PREFIXES if body and all(key.startswith(p) for key in body)), None)
        if prefix is None:
            break
        tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    return tensors


def _is_finite(tensor: Tensor) -> bool:
    return all(map(math.isfinite, tensor.detach().aminmax()))  # no copy: VGG-16's largest layer has 411 MB


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:120]
