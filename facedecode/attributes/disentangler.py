"""A template as two parts: what it says of an attribute of two classes, and the rest, which says nothing of it.

Each class's templates are taken for a normal distribution. The identity part is the template carried to the barycenter
of the two distributions by optimal transport: the least change after which both have the same mean and covariance
(McCann 1997; Le Gouic, Loubes and Rigollet 2020). It has the template's dimension and is compared as templates are. The
dependent part is the class, told by quadratic discriminant analysis. Transport back makes a template of both parts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np

from facedecode.attributes.gaussians import Gaussians
from facedecode.errors import BadInput, UsageError
from facedecode.fitted import FittedToPictures
from facedecode.records import Record
from facedecode.tensor_file import Float64, Kind, unchecked

KEEP, MEAN = "keep", "mean"


@dataclass(frozen=True)
class _Provenance(Record):
    people: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _Report(Record):
    provenance: _Provenance = field(default_factory=_Provenance)


@dataclass(frozen=True, eq=False)
class Disentangler(FittedToPictures):
    """Parts templates, and joins them again.

    attribute: what the classes are of: "gender".
    classes: two names, as in the labels, sorted.
    means: (2, dim) float64, of each class's templates.
    covariances: (2, dim, dim) float64, of each class's templates, shrunk.
    to_common: (2, dim, dim) float64, symmetric: the linear part of each class's way to the barycenter.
    from_common: (2, dim, dim) float64, their inverses.
    common_mean: (dim,) float64, of the barycenter.
    class_means: (2, dim) float64, of the identity parts of each class's images: what the average person is.
    axes: (dim, dim) float64, orthonormal columns: principal axes of the identity parts, the widest first.
    report: JSON: whom it was fitted on, and how well it does on others; see `disentangler_fit`.

    Raises BadInput: other shapes, numbers that are not finite, a covariance that is none, maps that do not undo each
    other, or classes that are not two names other than "keep" and "mean".
    """

    KIND: ClassVar[Kind] = Kind("disentangler", "train --kind disentangler", 3, {2: unchecked})

    attribute: str
    classes: tuple[str, str]
    # In float32, back and forth would not end where it began.
    means: Float64
    covariances: Float64
    to_common: Float64
    from_common: Float64
    common_mean: Float64
    class_means: Float64
    axes: Float64

    def __post_init__(self) -> None:
        names = [name for name in self.classes if isinstance(name, str) and name not in ("", KEEP, MEAN)]
        if len(names) != 2 or names[0] == names[1]:
            listed = ", ".join(map(str, self.classes))
            raise BadInput(f"a disentangler has two classes, called other than {KEEP} and {MEAN}, not {listed}")
        _ = self.fitted_on  # refuses a malformed record now
        dim = self.common_mean.size
        shapes = {"common_mean": (dim,), "means": (2, dim), "class_means": (2, dim)}
        shapes |= dict.fromkeys(("covariances", "to_common", "from_common"), (2, dim, dim)) | {"axes": (dim, dim)}
        for name, shape in shapes.items():
            if (tensor := getattr(self, name)).shape != shape or dim == 0:
                raise BadInput(f"a disentangler's {name} of shape {tensor.shape}, not {shape}: fit it again")
            if not np.isfinite(tensor).all():
                raise BadInput(f"a disentangler's {name} have NaN or infinite numbers: fit it again")
        self.recognizer.require_dim(dim, "a disentangler")
        if not np.allclose(self.to_common @ self.from_common, np.eye(dim), atol=1e-6):
            raise BadInput("a disentangler's maps do not undo each other: fit it again")
        if not np.allclose(self.axes.T @ self.axes, np.eye(dim), atol=1e-6):
            raise BadInput("a disentangler's axes are not orthonormal: fit it again")
        try:
            _ = self._gaussians.factors
        except np.linalg.LinAlgError:
            raise BadInput("a disentangler's covariances are not positive: fit it again") from None

    @cached_property
    def _gaussians(self) -> Gaussians:
        return Gaussians(self.means, self.covariances)

    @property
    def dim(self) -> int:
        """The size of the templates, and of identity parts."""
        return self.common_mean.size

    @property
    def fitted_on(self) -> list[str] | None:
        """The people whom it was fitted on, those held out of the fit among them; None where that is not recorded."""
        people = _Report.from_json("its report", self.report).provenance.people
        return None if people is None else list(people)

    def posterior(self, templates: np.ndarray) -> np.ndarray:
        """How probable each class is, both being as frequent: templates (n, dim) → float64 (n, 2).

        Raises BadInput: another shape.
        """
        return self._gaussians.posterior(self._checked(templates))

    def split(self, templates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The two parts of templates (n, dim).

        The class that is more probable decides which way a template is carried: it needs no label. Returns the identity
        part, float32 (n, dim), and the dependent part, float32 (n, 2): 1 for the class, else 0.

        Raises BadInput: another shape.
        """
        values = self._checked(templates)
        classes = self.posterior(values).argmax(1)
        identity = np.empty_like(values)
        for number in range(2):
            rows = classes == number
            identity[rows] = (values[rows] - self.means[number]) @ self.to_common[number] + self.common_mean
        return identity.astype(np.float32), np.eye(2, dtype=np.float32)[classes]

    def identity(self, templates: np.ndarray, components: int | None = None) -> np.ndarray:
        """The identity part alone, see `split`.

        components: keep so many principal components of it, and the mean along the others; all if None. Fewer say less
            of the class, and of the person.

        Raises UsageError: fewer than one component, or more than there are numbers. BadInput: another shape.
        """
        self.require_components(components)
        identity = self.split(templates)[0]
        if components is None:
            return identity
        kept = self.axes[:, :components]
        center = self.class_means.mean(0)
        return ((identity - center) @ kept @ kept.T + center).astype(np.float32)

    def require_components(self, components: int | None) -> None:
        """Refuse what `identity` would. Raises UsageError."""
        if components is not None and not 1 <= components <= self.dim:
            raise UsageError(f"--components {components}: {self.label} has identity parts of {self.dim} numbers")

    def join(self, identity: np.ndarray, dependent: np.ndarray) -> np.ndarray:
        """Templates, float32 (n, dim), of identity parts (n, dim) and dependent parts (n, 2): undoes `split`.

        Shares of both classes give as much of the way back to each. Raises BadInput: another shape.
        """
        values, shares = self._checked(identity), np.asarray(dependent, np.float64)
        if shares.shape != (len(values), 2):
            raise BadInput(f"{self.label} takes dependent parts ({len(values)}, 2), not {shares.shape}")
        centered = values - self.common_mean
        joined = np.zeros_like(values)
        for number in range(2):
            joined += shares[:, [number]] * (centered @ self.from_common[number] + self.means[number])
        return joined.astype(np.float32)

    def resynthesize(self, templates: np.ndarray, dependent: str = KEEP, independent: str = KEEP) -> np.ndarray:
        """Templates (n, dim) → float32 (n, dim), one of their parts, or both, replaced.

        dependent: "keep", the name of a class, or "mean", which is half of each.
        independent: of the identity part: "keep", the name of a class for the mean of its images, or "mean" for that of
            both.

        Raises UsageError: none of these. BadInput: another shape.
        """
        self.require_parts(dependent, independent)
        identity, shares = self.split(templates)
        if dependent != KEEP:
            shares = np.broadcast_to(self._share(dependent), shares.shape)
        if independent != KEEP:
            identity = np.broadcast_to(self._share(independent) @ self.class_means, identity.shape)
        return self.join(identity, shares)

    def require_parts(self, dependent: str, independent: str) -> None:
        """Refuse what `resynthesize` would. Raises UsageError."""
        for name, wanted in (("dependent", dependent), ("independent", independent)):
            if wanted not in (KEEP, MEAN, *self.classes):
                listed = ", ".join((KEEP, *self.classes))
                raise UsageError(f"--{name} {wanted}: {self.label} knows {listed} and {MEAN}")

    def _share(self, wanted: str) -> np.ndarray:
        return np.full(2, 0.5) if wanted == MEAN else np.eye(2)[self.classes.index(wanted)]

    def _checked(self, templates: np.ndarray) -> np.ndarray:
        return self.require_templates_of(templates, self.dim, np.float64)


load_disentangler = Disentangler.load
