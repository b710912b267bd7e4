"""LPIPS, the learned perceptual distance (Zhang et al. 2018), by the `lpips` package, version 0.1 of its weights.

The package has the calibrated linear layers. The trunk under them is a network of torchvision's; the user names its
file. The layers were calibrated on those very weights: another trunk gives a number that is no LPIPS, and is refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facedecode.errors import BadInput, UsageError
from facedecode.perceptual.imagenet import ALEXNET, SQUEEZENET, VGG16, load_features
from facedecode.pictures.images import to_tensor
from facedecode.recognizers.weights_file import load_into

VERSION = "0.1"
TRUNKS = {"alex": ALEXNET, "squeeze": SQUEEZENET, "vgg": VGG16}
_SMALLEST = 32  # px a side: below it the trunks' last maps are empty


class Lpips:
    """The distance, on a trunk from a local file.

    net: alex, squeeze or vgg. trunk_sha256: of the trunk's file.
    """

    def __init__(self, trunk: Path, net: str = "alex", device: str = "cpu") -> None:
        """trunk: weights of `net` as torchvision publishes them, see `TRUNKS`.

        Raises UsageError: no such net. MissingWeights, BadInput: as `load_features`.
        """
        if net not in TRUNKS:
            raise UsageError(f"LPIPS has no net {net!r}: choose one of {', '.join(TRUNKS)}")
        self.net, model = net, build_model(net)
        # Its layers are numbered as torchvision's, in slices: slice2.3.weight is features.3.weight.
        places = {name.partition(".")[2]: name for name in model.net.state_dict()}
        last = max(int(place.partition(".")[0]) for place in places)
        why = f"LPIPS ({net}) is calibrated on those: a distance on others is no LPIPS"
        features, self.trunk_sha256 = load_features(TRUNKS[net], trunk, last, why)
        model.net.load_state_dict({places[name]: tensor for name, tensor in features.state_dict().items()})
        self._model, self._device = model.to(device), torch.device(device)

    def __call__(self, pictures: np.ndarray, references: np.ndarray, batch_size: int = 32) -> np.ndarray:
        """The distance of each picture from its reference, both (n, H, W, 3) uint8 RGB: float64 (n,), >= 0.

        Raises BadInput: as `pair_distances`, or pictures that are too small.
        """
        if min(pictures.shape[1:3], default=_SMALLEST) < _SMALLEST:
            raise BadInput(f"LPIPS needs pictures of at least {_SMALLEST} px a side, not {pictures.shape[1:3]}")
        # normalize: the package scales from [0, 1] to [-1, 1].
        return pair_distances(
            lambda *pair: self._model(*pair, normalize=True).flatten(), pictures, references, self._device, batch_size
        )

    def describe(self) -> dict[str, str]:
        """JSON: what made the numbers."""
        return {"net": self.net, "version": VERSION, "trunk": TRUNKS[self.net].file, "trunk_sha256": self.trunk_sha256}


def build_model(net: str) -> Any:
    """The package's model with its calibrated layers; the trunk is still random."""
    import lpips

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # torchvision's on the arguments that the package passes
        # pnet_rand: else the constructor downloads the trunk. pretrained: else it unpickles its own file.
        model = lpips.LPIPS(net=net, version=VERSION, pnet_rand=True, pretrained=False, verbose=False)
    calibrated = Path(lpips.__file__).parent / "weights" / f"v{VERSION}" / f"{net}.pth"
    load_into(nn.ModuleDict({f"lin{k}": each for k, each in enumerate(model.lins)}), calibrated)
    return model.eval().requires_grad_(False)


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
