"""Whose template is it? A softmax over known people on top of a recognizer: what softmax attacks attack."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from facedecode.errors import BadInput, UsageError
from facedecode.fitted import FittedToPictures
from facedecode.identity import RecognizerId
from facedecode.tensor_file import Float32, Kind


def _without_head(header: dict[str, Any]) -> dict[str, Any]:
    """A header of version 1, which had the scale and the normalization in one entry with the head's name."""
    head = header["head"]
    return header | {"scale": head["scale"], "normalized": head["normalized"]}


_LISTED = 20  # names that an error lists in full


@dataclass(frozen=True, eq=False)
class Classifier(FittedToPictures):
    """Logits of known people, affine in a template or in its direction.

    weight: (classes, dim) float32, for templates as the recognizer gives them: no standardization is left to do.
        Rows of a cosine head have length 1.
    bias: (classes,) float32; zeros in a cosine head.
    names: of the classes, sorted; n → row n of the weight.
    scale: of a cosine head, whose logits are scale · cos(weight, template); None for a linear head.
    normalized: whether a linear head takes templates of length 1 (it is given any, and normalizes them itself).
    report: see `fit.fit_classifier`.

    Raises BadInput: other shapes, NaN or infinite numbers, names that are not sorted, unique and as many as classes,
    fewer than two classes; in a cosine head a bias, or rows that have not length 1.
    """

    KIND: ClassVar[Kind] = Kind("classifier", "train --kind classifier", 2, {1: _without_head})

    weight: Float32
    bias: Float32
    names: tuple[str, ...]
    scale: float | None = None
    normalized: bool = False
    _tensors: dict[tuple, tuple[Tensor, Tensor]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        classes = len(self.names)
        if self.bias.shape != (classes,) or self.weight.ndim != 2 or len(self.weight) != classes or not self.dim:
            raise BadInput(
                f"weight {self.weight.shape}, bias {self.bias.shape} and {classes} names make no classifier: a weight "
                "(classes, dim) goes with a bias and a name for each class"
            )
        if classes < 2:
            raise BadInput("a classifier of one class tells nothing apart: give two or more")
        if self.recognizer.dim not in (None, self.dim):
            raise BadInput(
                f"a weight (classes, {self.dim}) cannot be for {self.recognizer.name}, whose templates have "
                f"{self.recognizer.dim} numbers; take the recognizer that it was trained with"
            )
        if not all(self.names):
            raise BadInput("a class has no name: name each class once")
        if list(self.names) != sorted(set(self.names)):
            twice = next((a for a, b in zip(self.names, self.names[1:], strict=False) if a == b), None)
            raise BadInput(f"two classes are called {twice!r}" if twice else "the classes' names are not sorted")
        if not (np.isfinite(self.weight).all() and np.isfinite(self.bias).all()):
            raise BadInput("the classifier has NaN or infinite weights: train it again")
        if self.scale is not None:
            if not 0 < self.scale < np.inf:
                raise BadInput(f"a cosine head with a scale of {self.scale} makes no sense: train it again")
            if self.bias.any() or np.abs(np.linalg.norm(self.weight, axis=1) - 1).max() > 1e-3:
                raise BadInput("a cosine head has weights of length 1 and no bias: train it again")

    @classmethod
    def from_linear(
        cls,
        weight: np.ndarray | Tensor,
        bias: np.ndarray | Tensor | None,
        names: Sequence[str],
        recognizer: RecognizerId,
        *,
        scale: float | None = None,
        normalized: bool = False,
        report: dict[str, Any] | None = None,
    ) -> Classifier:
        """A classifier from the last layer of a network of one's own, its classes in any order.

        Args:
            weight: (classes, dim), any float type, as `torch.nn.Linear` has it. bias: (classes,), or None.
            names: of its rows, in their order. recognizer: the network below it.
            scale: makes it a cosine head of that scale; the rows are normalized.
            normalized: whether a linear head was trained on templates of length 1.

        Raises BadInput: as the class; a bias, or a row of zeros, in a cosine head.
        """
        weights = _array(weight)
        bias = np.zeros(len(names), np.float32) if bias is None else _array(bias)
        if weights.ndim == 2 and len(weights) == len(names) == bias.size:
            order = sorted(range(len(names)), key=lambda row: str(names[row]))
            weights, bias, names = weights[order], bias.reshape(-1)[order], [names[row] for row in order]
        if scale is not None:
            lengths = np.linalg.norm(weights.astype(np.float64), axis=-1, keepdims=True)
            if not (lengths > 0).all():
                raise BadInput("a class of the cosine head has a weight of zeros or NaN: it has no direction")
            weights = (weights / lengths).astype(np.float32)
        return cls(weights, bias, tuple(names), scale, normalized, recognizer=recognizer, report=report or {})

    @property
    def dim(self) -> int:
        """The size of the templates."""
        return self.weight.shape[1]

    @property
    def fitted_on(self) -> list[str]:
        """The people of its classes."""
        return list(self.names)

    @property
    def head(self) -> str:
        """`linear` or `cosine`."""
        return "linear" if self.scale is None else "cosine"

    def __len__(self) -> int:
        return len(self.names)

    def logits(self, templates: Tensor) -> Tensor:
        """Logits of templates (n, dim) as the recognizer gives them → (n, classes) in their order. Differentiable.

        On the templates' device; float32, of float64 templates float64. Raises BadInput: another shape.
        """
        if templates.ndim != 2 or templates.shape[1] != self.dim:
            raise BadInput(f"{self.label} takes templates (n, {self.dim}), not {tuple(templates.shape)}")
        # Halves are not precise enough for the small differences that attacks are made of.
        x = templates if templates.dtype == torch.float64 else templates.float()
        weight, bias = self._on(x)
        if self.scale is not None:
            return self.scale * (F.normalize(x, dim=1) @ weight.T)
        return (F.normalize(x, dim=1) if self.normalized else x) @ weight.T + bias

    def predict(self, templates: np.ndarray | Tensor) -> Tensor:
        """The class of the highest logit, of equal ones the first: (n, dim) any float type → int64 (n,).

        `names` has what they are called. Raises BadInput as `logits`.
        """
        if isinstance(templates, np.ndarray):
            templates = torch.from_numpy(np.ascontiguousarray(templates))
        with torch.no_grad():
            return self.logits(templates).argmax(dim=1)

    def index(self, name: str) -> int:
        """The class of a person. Raises UsageError, which lists names like it, or all if they are few."""
        try:
            return self.names.index(name)
        except ValueError:
            pass
        folded = {n.casefold().replace("_", " "): n for n in self.names}
        near = difflib.get_close_matches(name.casefold().replace("_", " "), folded, 5, 0.6)
        listed = f"there are {', '.join(self.names)}"
        if len(self) > _LISTED:
            some = ", ".join([folded[n] for n in near] or self.names[:5])
            listed = f"names like it among its {len(self)}: {some}" if near else f"it has {len(self)}: {some}, …"
        raise UsageError(f"{self.label} has no class {name!r}; {listed}")

    def _on(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias on the device and in the type of a tensor, copied there once."""
        key = (like.device, like.dtype)
        if key not in self._tensors:
            self._tensors[key] = (torch.tensor(self.weight).to(like), torch.tensor(self.bias).to(like))
        return self._tensors[key]


load_classifier = Classifier.load


def _array(values: np.ndarray | Tensor) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().cpu().float().numpy()
    return np.asarray(values, np.float32)
