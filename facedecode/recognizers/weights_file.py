"""Weights that others trained, read safely: tensors and nothing else, and exactly those that the network has.

A file is safetensors, or torch's own format (zip or legacy) read with `weights_only`: code in a pickle is never run.
"""

from __future__ import annotations

import argparse
import io
import math
import pickle
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facedecode.errors import BadInput, FacedecodeWarning, some_of
from facedecode.files import read_file
from facedecode.recognizers.archive import require_archive

if TYPE_CHECKING:
    from torch import Tensor, nn

# Modules of torch's that wrap a network, or a part of it, while it is trained.
_WRAPPING = re.compile(r"(?<![^.])(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# Classifiers, and what losses train beside a network: no template goes through them.
_HEAD = re.compile(
    r"fc\d*|last_linear|.*(head|classif|logit|loss|criterion|margin|metric|softmax|(arc|cos|sphere|ada|mag|curricular)_?face"
    r"|prox(y|ies)|product|center).*",
    re.IGNORECASE,
)
_DEEPEST = 4  # dictionaries in each other, as {"checkpoint": {"state_dict": {…}}}, and modules about a network
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
    classifier: modules that its own files have behind the network (`fc`, `features.9`): left out without a word.
    turned_first: the first convolution, if the file has its channels in the other order (BGR for RGB).
    refused: why a file of this layout is not taken, and what to do instead.
    uncounted: a warning where batch normalization has no counters, which is the mark of a converted file.
    """

    name: str = "the network itself"
    layers: Mapping[str, str] = field(default_factory=dict)
    classifier: tuple[str, ...] = ()
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


def kind_of_weights(path: Path, content: bytes | None = None) -> str:
    """`safetensors`, `zip` (torch) or `pickle` (torch before 1.6), by a file's content. Free of torch.

    content: as in `read_tensors`. Raises BadInput: it is none of them.
    """
    content = read_file(path) if content is None else content
    # First of all: the length that such a file begins with can look like anything.
    if content[8:9] == b"{" and int.from_bytes(content[:8], "little") <= len(content):
        return "safetensors"
    if content.startswith(b"PK\x03\x04"):
        return "zip"
    if content.startswith(b"\x80"):
        return "pickle"
    refuse_stand_in(path, content[:64])
    raise BadInput(f"{path}: is neither a safetensors nor a torch file, or it is damaged; convert or download it again")


def read_tensors(path: Path, content: bytes | None = None) -> dict[str, Tensor]:
    """The tensors of a file by their names, on the CPU, as they are: of its largest state dict, if there are several.

    content: of the file, where it was read already: a file is never opened twice, for it may be another by then.

    Raises BadInput: not weights, truncated or damaged, or more than tensors (which is never run).
    """
    return max(_read_states(path, read_file(path) if content is None else content).values(), key=len)


def load_into(
    net: nn.Module,
    path: Path,
    layouts: Sequence[Layout] = (Layout(),),
    content: bytes | Mapping[str, Tensor] | None = None,
) -> nn.Module:
    """`net` with the tensors of a file. It can be built on torch's device `meta`, which costs nothing.

    The network may lie in the file as training scripts save it: in a dictionary of another (`state_dict`, `model`), in
    another module (`backbone.`), wrapped by torch (`module.`), and beside other things.

    layouts: those that a file may have; the one that gives the most of the network's tensors is taken.
    content: as in `read_tensors`; or the file's tensors, where it is of a kind that something else reads.

    Warns FacedecodeWarning: a classifier is left out. Raises BadInput: as `read_tensors`; several networks; tensors are
    missing, unexpected or of another shape (listed), or not finite.
    """
    import torch

    expected = net.state_dict()
    if isinstance(content, Mapping):
        states = {"": dict(content)}
    else:
        states = _read_states(path, read_file(path) if content is None else content)
    layout, tensors, others = _find_network(path, states, expected, layouts)
    if layout.refused:
        raise BadInput(f"{path}: {layout.refused}")
    others = [name for name in others if not name.startswith(tuple(f"{module}." for module in layout.classifier))]
    unexpected = [name for name in others if not _HEAD.fullmatch(_module(name))]
    if differences := _differences(expected, tensors, unexpected):
        taken = ", ".join(each.name for each in layouts if not each.refused)
        raise BadInput(f"{path}: not these weights: tensors {differences}; expected the layout of {taken}")
    if left_out := sorted({_module(name) for name in others}):
        what = (
            f"{path}: left out {some_of(left_out)}: no template goes through a classifier or a loss beside the network"
        )
        warnings.warn(what, FacedecodeWarning, stacklevel=2)
    if layout.uncounted and not any(name.endswith(_COUNTER) for name in tensors):
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


def _differences(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], unexpected: Sequence[str]) -> str:
    """How a file's tensors differ from the network's, for a message; empty where they do not."""
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
        "unexpected": unexpected,
        "of another shape or type": wrong,
    }
    return "; ".join(f"{len(names)} {kind} ({some_of(sorted(names))})" for kind, names in lists.items() if names)


def _read_safetensors(path: Path, content: bytes) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(content)
    except (SafetensorError, ValueError, OverflowError, RuntimeError) as error:
        raise BadInput(f"{path}: not a readable safetensors file ({_line(error)}); download it again") from None


def _read_torch(path: Path, content: bytes, is_archive: bool) -> Any:
    import torch

    if is_archive:
        require_archive(path, content, compressed="code/")
    try:
        # What a script was called with is often saved beside the network. It holds values, and does nothing.
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # on old formats
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "nsupported" in str(error) or "WeightsUnpickler error" in str(error):
            raise BadInput(
                f"{path}: holds more than tensors, and such a pickle can run code: it was not loaded. Where you trust "
                "it, save its model.state_dict() as safetensors"
            ) from None
        raise BadInput(f"{path}: damaged, or no file of torch's ({_line(error)}); download it again") from None
    except Exception as error:  # torch raises many kinds, KeyError and AttributeError among them, on damaged files
        raise BadInput(f"{path}: truncated or damaged ({_line(error)}); download it again") from None


def _read_states(path: Path, content: bytes) -> dict[str, dict[str, Tensor]]:
    """The state dicts in a file, by where they are in it (`checkpoint.state_dict`, at the top ''); one at least."""
    import torch

    kind = kind_of_weights(path, content)
    read = _read_safetensors(path, content) if kind == "safetensors" else _read_torch(path, content, kind == "zip")
    states: dict[str, dict[str, Tensor]] = {}
    left, seen = [("", read, 0)], set()
    while left:
        place, value, depth = left.pop()
        if not isinstance(value, Mapping) or id(value) in seen or depth > _DEEPEST:
            continue
        seen.add(id(value))
        # An optimizer numbers its states: what is under a number is no network's.
        named = {key: each for key, each in value.items() if isinstance(key, str)}
        if tensors := {key: each for key, each in named.items() if isinstance(each, torch.Tensor)}:
            states[place] = tensors
        inside = [(f"{place}.{key}" if place else key, each, depth + 1) for key, each in named.items()]
        left.extend(reversed(inside))
    if not states:
        raise BadInput(f"{path}: holds no state dict (names and tensors); save model.state_dict()")
    return states


def _find_network(
    path: Path,
    states: Mapping[str, Mapping[str, Tensor]],
    expected: Mapping[str, Tensor],
    layouts: Sequence[Layout],
) -> tuple[Layout, dict[str, Tensor], list[str]]:
    """Where most of a network's tensors are in a file.

    Returns their layout; the tensors by the network's names; and the names of what else is in the same state dict,
    without the modules that both lie in. Raises BadInput: several networks, or a layer twice.
    """
    wanted = {name for name in expected if not name.endswith(_COUNTER)}
    plain = {place: {key: _WRAPPING.sub("", key) for key in state} for place, state in states.items()}
    found: dict[tuple[int, str, str], set[str]] = {}  # by layout, place and what is before the names
    for number, layout in enumerate(layouts):
        for place, names in plain.items():
            for name in names.values():
                start = 0
                for _ in range(_DEEPEST + 1):
                    if (renamed := layout.rename(name[start:])) in wanted:
                        found.setdefault((number, place, name[:start]), set()).add(renamed)
                    if not (start := name.find(".", start) + 1):
                        break
    largest = max(states, key=lambda place: len(states[place]))
    best = max(found, key=lambda each: len(found[each]), default=(0, largest, ""))
    layout = layouts[best[0]]

    def parted(place: str, prefix: str) -> tuple[dict[str, Tensor], list[str]]:
        tensors: dict[str, Tensor] = {}
        others = []
        for key, name in plain[place].items():
            renamed = layout.rename(name.removeprefix(prefix))
            if not name.startswith(prefix) or renamed not in expected:
                others.append(_beside(name, prefix))
            elif renamed in tensors:
                raise BadInput(f"{path}: names the layer {renamed} twice; give one network's weights")
            else:
                tensors[renamed] = states[place][key]
        return tensors, others

    tensors, others = parted(*best[1:])
    for number, place, prefix in found.keys() - {best}:
        if number == best[0] and found[best] == found[number, place, prefix] == wanted:
            again, _ = parted(place, prefix)
            if not all(_are_equal(tensors[name], again[name]) for name in wanted):
                both = sorted(".".join(each).strip(".") or "its top" for each in (best[1:], (place, prefix)))
                raise BadInput(f"{path}: holds several networks, as {' and as '.join(both)}; save the one you want")
    return layout, tensors, others


def _module(name: str) -> str:
    return name.partition(".")[0]


def _beside(name: str, prefix: str) -> str:
    """A name without what it shares with the prefix of another, module by module."""
    for module in prefix.split("."):
        if not name.startswith(f"{module}."):
            break
        name = name.removeprefix(f"{module}.")
    return name


def _are_equal(x: Tensor, y: Tensor) -> bool:
    import torch

    dense = x.layout == y.layout == torch.strided and not (x.is_meta or y.is_meta)
    return dense and x.dtype == y.dtype and torch.equal(x, y)


def _is_finite(tensor: Tensor) -> bool:
    return all(map(math.isfinite, tensor.detach().aminmax()))  # no copy: VGG-16's largest layer has 411 MB


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:120]
