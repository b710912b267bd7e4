"""LPIPS, the learned perceptual distance (Zhang et al. 2018), by the `lpips` package, version 0.1 of its weights.

The package has the calibrated linear layers. The trunk under them is a network of torchvision; the user names its file.
The layers were calibrated on those very weights: another trunk gives a number that is no LPIPS, and is refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facedecode.errors import BadInput, MissingWeights, UsageError
from facedecode.files import read_file, sha256_of
from facedecode.pictures.images import to_tensor
from facedecode.recognizers.weights_file import read_tensors

VERSION = "0.1"
# torchvision's own names for the files; each ends in the first eight hex digits of the file's SHA-256.
TRUNKS = {"alex": "alexnet-owt-7be5be79.pth", "squeeze": "squeezenet1_1-b8a52dc0.pth", "vgg": "vgg16-397923af.pth"}
_SMALLEST = 32  # px a side: below it the trunks' last maps are empty


class Lpips:
    """The distance, on a trunk from a local file.

    net: alex, squeeze or vgg. trunk_sha256: of the trunk's file.
    """

    def __init__(self, trunk: Path, net: str = "alex", device: str = "cpu") -> None:
        """trunk: torchvision's own file of `net`, see `TRUNKS`.

        Raises UsageError: no such net. MissingWeights: no such file. BadInput: another file, or a damaged one.
        """
        if net not in TRUNKS:
            raise UsageError(f"LPIPS has no net {net!r}: choose one of {', '.join(TRUNKS)}")
        content = read_trunk(trunk, net)
        self.net, self.trunk_sha256 = net, sha256_of(content)
        model = build_model(net)
        load_trunk(model, read_tensors(trunk, content), trunk)
        self._model, self._device = model.to(device), torch.device(device)

    def __call__(self, pictures: np.ndarray, references: np.ndarray, batch_size: int = 32) -> np.ndarray:
        """The distance of each picture from its reference, both (n, H, W, 3) uint8 RGB: float64 (n,), >= 0."""
        return distances(self._model, pictures, references, self._device, batch_size)

    def describe(self) -> dict[str, str]:
        """JSON: what made the numbers."""
        return {"net": self.net, "version": VERSION, "trunk": TRUNKS[self.net], "trunk_sha256": self.trunk_sha256}


def read_trunk(path: Path, net: str) -> bytes:
    """The file's content, if it is the one that torchvision publishes for this net; errors as in `Lpips`."""
    name = TRUNKS[net]
    prefix = name.removesuffix(".pth").rpartition("-")[2]
    if not path.is_file():
        raise MissingWeights(f"{path}: no such file; LPIPS ({net}) needs torchvision's {name}")
    content = read_file(path)
    sha256 = sha256_of(content)
    if not sha256.startswith(prefix):
        raise BadInput(
            f"{path}: not torchvision's {name} (its sha256 begins with {sha256[:8]}, not {prefix}); LPIPS is "
            "calibrated on that trunk: a distance on another is no LPIPS, and a converted file cannot be verified"
        )
    return content


def build_model(net: str) -> Any:
    """The package's model with its calibrated layers; the trunk is still random, see `load_trunk`."""
    import lpips

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # torchvision's on the arguments that the package passes
        # pnet_rand: else the constructor downloads the trunk.
        model = lpips.LPIPS(net=net, version=VERSION, pnet_rand=True, verbose=False)
    return model.eval().requires_grad_(False)


def load_trunk(model: Any, state: Mapping[str, Tensor], path: Path) -> None:
    """Put torchvision's state dict under the model. Raises BadInput: a tensor is missing or has another shape."""
    expected = model.net.state_dict()
    tensors = {}
    for name, tensor in expected.items():
        key = f"features.{name.partition('.')[2]}"  # slice2.3.weight is features.3.weight
        if key not in state:
            raise BadInput(f"{path}: tensor {key} is missing; this is not the trunk of LPIPS ({model.pnet_type})")
        if state[key].shape != tensor.shape:
            raise BadInput(f"{path}: {key} is {tuple(state[key].shape)}, expected {tuple(tensor.shape)}")
        tensors[name] = state[key]
    model.net.load_state_dict(tensors)


def distances(
    model: nn.Module, pictures: np.ndarray, references: np.ndarray, device: torch.device, batch_size: int = 32
) -> np.ndarray:
    """The model's distance of each picture from its reference, both (n, H, W, 3) uint8 RGB: float64 (n,).

    Raises BadInput: as `pair_distances`, or pictures that are too small.
    """
    if min(pictures.shape[1:3], default=_SMALLEST) < _SMALLEST:
        raise BadInput(f"LPIPS needs pictures of at least {_SMALLEST} px a side, not {pictures.shape[1:3]}")
    # normalize: the package scales from [0, 1] to [-1, 1].
    return pair_distances(
        lambda *pair: model(*pair, normalize=True).flatten(), pictures, references, device, batch_size
    )


def pair_distances(
    distance: Callable[[Tensor, Tensor], Tensor],
    pictures: np.ndarray,
    references: np.ndarray,
    device: torch.device,
    batch_size: int,
) -> np.ndarray:
    """Distances (n,) float64 of pictures from their references, both (n, H, W, 3) uint8 RGB.

    distance: takes a batch of each, (b, 3, H, W) float32 in [0, 1] on `device`, and gives (b,).

    Raises BadInput: pictures of other or different shapes or types.
    """
    alike = pictures.dtype == references.dtype == np.uint8 and pictures.shape == references.shape
    if not alike or pictures.ndim != 4 or pictures.shape[3] != 3:
        raise BadInput(
            f"pictures of {pictures.dtype} {pictures.shape} and {references.dtype} {references.shape} cannot be "
            "compared; give two alike, (n, H, W, 3) uint8"
        )
    values = []
    with torch.inference_mode():
        for start in range(0, len(pictures), batch_size):
            pair = (to_tensor(each[start : start + batch_size], device) for each in (pictures, references))
            values.append(distance(*pair).cpu())
    return torch.cat(values).double().numpy() if values else np.empty(0)
