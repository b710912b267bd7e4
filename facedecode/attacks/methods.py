"""The attacks by name, and the budget that each may spend. Free of torch, so that a command can list them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from importlib import import_module
from numbers import Real
from types import MappingProxyType

from facedecode.errors import UsageError

# What each number may be: the least, the greatest, whether it is whole, and what it is.
_LIMITS: dict[str, tuple[float, float, bool, str]] = {
    "epsilon": (0, 1, False, "the largest change of a pixel in [0, 1]; 8/255 is usual"),
    "steps": (1, 100_000, True, "gradients of one run"),
    "alpha": (1e-9, 1, False, "the change of a pixel in one step; 1/255 is usual"),
    "momentum": (0, 1, False, "the share of the earlier gradients that is kept"),
    "c": (1e-10, 1e10, False, "the weight of the margin against the squared L2"),
    "kappa": (0, 10_000, False, "the margin to reach, in logits or scores"),
    "learning_rate": (1e-9, 10, False, "Adam's step in tanh space; 0.01 is usual"),
    "search_steps": (1, 50, True, "the runs of the search for c"),
    "max_gradients": (1, 10_000_000, True, "gradients of one picture in all"),
}


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What an attack may spend on each picture. None stands for the method's default.

    Attributes:
        epsilon: the largest change of a pixel (L∞), in units of the picture's range [0, 1].
        steps: gradients in one run, at least 1.
        alpha: the change of a pixel in one step, in the same units as epsilon.
        momentum: the share of the sum of earlier gradients that is kept (MI-FGSM's μ); 0 for none.
        c: Carlini and Wagner's weight of the margin; where it is searched for, the first one tried.
        kappa: the margin that an attack must reach to stop (logits or scores), beside being positive.
        learning_rate: Adam's, in tanh space.
        search_steps: values of c to try for each picture.
        max_gradients: gradients of one picture in all runs; None for no limit of its own.

    Raises:
        UsageError: a number that is negative, NaN or absurd.
    """

    epsilon: float | None = None
    steps: int | None = None
    alpha: float | None = None
    momentum: float | None = None
    c: float | None = None
    kappa: float | None = None
    learning_rate: float | None = None
    search_steps: int | None = None
    max_gradients: int | None = None

    def __post_init__(self) -> None:
        for name, (least, greatest, whole, what) in _LIMITS.items():
            value = getattr(self, name)
            if value is None:
                continue
            # NaN fails every comparison, and so is refused here too.
            number = isinstance(value, Real) and not isinstance(value, bool)
            good = number and least <= value <= greatest and (not whole or value == int(value))
            if not good:
                kind = "a whole number" if whole else "a number"
                raise UsageError(f"{name} {value}: give {kind} from {least:g} to {greatest:g} ({what})")

    def given(self) -> dict[str, float | int]:
        """The fields that are not None."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}


@dataclass(frozen=True)
class Method:
    """An attack that `METHODS` knows.

    Attributes:
        name: its key in `METHODS`.
        summary: one line for people.
        source: where it was published.
        defaults: the budget fields that it uses, each with its default.
    """

    name: str
    summary: str
    source: str
    defaults: Mapping[str, float | int | None]
    _module: str = field(repr=False)
    _function: str = field(repr=False)

    @property
    def function(self) -> Callable:
        """The algorithm, (problem, budget) → pictures to hand in, their margins or NaN; imports torch."""
        return getattr(import_module(f"facedecode.attacks.{self._module}"), self._function)

    def budget(self, given: Budget | None = None) -> Budget:
        """`given` with the method's defaults in the places left open.

        Raises:
            UsageError: a field that this method has no use for: it would be dropped silently.
        """
        given = given or Budget()
        unused = sorted(given.given().keys() - self.defaults.keys())
        if unused:
            raise UsageError(
                f"{self.name} has no use for {', '.join(unused)}: leave out all but {', '.join(self.defaults)}"
            )
        return replace(given, **{k: v for k, v in self.defaults.items() if getattr(given, k) is None})


def _method(name: str, place: str, summary: str, source: str, **defaults: float | int | None) -> Method:
    module, function = place.split(".")
    return Method(name, summary, source, MappingProxyType(defaults), module, function)


_CW = {"kappa": 0.0, "learning_rate": 0.01, "max_gradients": None}
_ALL = (
    _method(
        "tfgsm",
        "fgsm.one_step",
        "one step of the gradient's sign",
        "Goodfellow et al. 2015, targeted as in Kurakin et al. 2017",
        epsilon=8 / 255,
        kappa=0.0,
    ),
    _method(
        "itfgsm",
        "fgsm.many_steps",
        "steps of the gradient's sign inside the epsilon-ball, optionally with momentum",
        "Kurakin et al. 2017; momentum: Dong et al. 2018",
        epsilon=8 / 255,
        steps=20,
        alpha=1 / 255,
        momentum=0.0,
        kappa=0.0,
        max_gradients=None,
    ),
    _method(
        "tcw",
        "carlini_wagner.carlini_wagner",
        "least L2 by Adam in tanh space, with one weight c",
        "Carlini and Wagner 2017",
        steps=200,
        c=1.0,
        **_CW,
    ),
    _method(
        "itcw",
        "carlini_wagner.carlini_wagner",
        "the same with a search for each picture's c",
        "Carlini and Wagner 2017",
        steps=100,
        c=0.01,
        search_steps=9,
        **_CW,
    ),
    _method(
        "ddn",
        "ddn.decoupled_direction_and_norm",
        "least L2 by steps of unit length on a sphere that shrinks or grows",
        "Rony et al. 2019",
        steps=100,
        kappa=0.0,
        max_gradients=None,
    ),
)
METHODS: Mapping[str, Method] = MappingProxyType({method.name: method for method in _ALL})


def find_method(name: str) -> Method:
    """An attack by its name; UsageError, with the known names, where there is none."""
    if name not in METHODS:
        raise UsageError(f"no attack is called {name!r}; known: {', '.join(METHODS)}")
    return METHODS[name]
