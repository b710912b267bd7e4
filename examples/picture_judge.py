"""A user's own model that tells two classes of pictures apart, such as glasses and no glasses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from facedecode.errors import BadInput, UsageError
from facedecode.recognizers import is_custom
from facedecode.recognizers.custom import CustomRecognizer, load_custom
from facedecode.recognizers.recognizer import embed_pictures


class PictureJudge:
    """Probabilities of two classes, by a model that gives (n,), (n, 1) or (n, 2) numbers for pictures.

    classes: the two; a single number is of the second. model: with its crop and the hash of its file.
    """

    def __init__(self, model: CustomRecognizer):
        self.model = model
        if model.contract.classes is None:
            raise BadInput(f"{model.weights}: its contract does not say by 'classes' which two it tells apart")
        self.classes: tuple[str, str] = model.contract.classes
        if model.spec.dim > 2:
            raise BadInput(f"{model.weights}: gives {model.spec.dim} numbers of a picture, not one or two")

    def probabilities(self, portraits: np.ndarray) -> np.ndarray:
        """For portraits (n, P, P, 3) uint8 RGB: float64 (n, 2), in the order of `classes`.

        Raises:
            BadInput: numbers that are no probabilities, although the contract calls them that.
        """
        outputs = torch.from_numpy(embed_pictures(self.model, portraits)).double()
        if self.model.contract.gives == "logit":
            outputs = torch.sigmoid(outputs) if outputs.shape[1] == 1 else torch.softmax(outputs, 1)
        second = outputs[:, -1:]
        both = outputs if outputs.shape[1] == 2 else torch.cat([1 - second, second], 1)
        if not ((both >= 0) & (both <= 1)).all() or ((both.sum(1) - 1).abs() > 1e-3).any():
            raise BadInput(f"{self.model.weights}: gives no probabilities; if they are logits, say so by 'gives'")
        return both.numpy()


def load_judge(name: str, spec: Path | None = None, device: str = "cpu") -> PictureJudge:
    """A judge from `torch:FILE` or `onnx:FILE` with `gives` and `classes` in its contract.

    Raises:
        UsageError: another name.
        MissingWeights, UsageError, BadInput: as `load_custom`; no classes, or more numbers than two.
    """
    if not is_custom(name):
        raise UsageError(f"{name}: a judge is torch:FILE or onnx:FILE")
    return PictureJudge(load_custom(name, None, device, contract=spec, judge=True))
