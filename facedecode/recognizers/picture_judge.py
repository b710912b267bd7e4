"""A classifier of the user's own that looks at decoded pictures and tells two classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from facedecode.errors import BadInput, UsageError
from facedecode.recognizers.contract import is_own
from facedecode.recognizers.own import OwnRecognizer, load_own
from facedecode.recognizers.picture_templates import embed_pictures


class PictureJudge:
    """Probabilities of two classes, by a model that gives (n,), (n, 1) or (n, 2) numbers of pictures.

    Attributes:
        classes: the two; a single number is the second's.
        model: with its crop and the hash of its file.
    """

    def __init__(self, model: OwnRecognizer):
        self.model = model
        if model.contract.classes is None:
            raise BadInput(f"{model.weights}: its contract does not say by 'classes' which two it tells apart")
        self.classes: tuple[str, str] = model.contract.classes
        if model.spec.dim > 2:
            raise BadInput(f"{model.weights}: gives {model.spec.dim} numbers of a picture, not one or two")

    def probabilities(self, portraits: np.ndarray) -> np.ndarray:
        """Of portraits (n, P, P, 3) uint8 RGB: float64 (n, 2), in the order of `classes`.

        Raises:
            BadInput: what is declared a probability is none.
        """
        said = torch.from_numpy(embed_pictures(self.model, portraits)).double()
        if self.model.contract.gives == "logit":
            said = torch.sigmoid(said) if said.shape[1] == 1 else torch.softmax(said, 1)
        second = said[:, -1:]
        both = said if said.shape[1] == 2 else torch.cat([1 - second, second], 1)
        if not ((both >= 0) & (both <= 1)).all() or ((both.sum(1) - 1).abs() > 1e-3).any():
            raise BadInput(f"{self.model.weights}: gives no probabilities; if they are logits, say so by 'gives'")
        return both.numpy()


def load_judge(name: str, spec: Path | None = None, device: str = "cpu") -> PictureJudge:
    """A judge from `torch:FILE` or `onnx:FILE`, whose contract says `gives` and `classes`.

    Raises:
        UsageError: another name.
        MissingWeights, UsageError, BadInput: as `load_own`; no classes, or more numbers than two.
    """
    if not is_own(name):
        raise UsageError(f"{name}: a judge is torch:FILE or onnx:FILE")
    return PictureJudge(load_own(name, None, device, contract=spec, judge=True))
