"""The attacks by name, and the budget that each may spend. Free of torch, so that a command can list them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import import_module
from numbers import Real
from types import MappingProxyType
from typing import Any

from facedecode.errors import UsageError, some_of
from facedecode.options import option, require_choice

_LIMITS = "limits"


@dataclass(frozen=True)
class Method:
    """An attack: what it does, its algorithm (module.function), and the budget fields that it uses, with defaults."""

    name: str
    summary: str
    algorithm: str
    defaults: Mapping[str, float | int | None]

    @property
    def function(self) -> Callable:
        """The algorithm, (problem, budget) → pictures to hand in, their margins or NaN; imports torch."""
        module, name = self.algorithm.split(".")
        return getattr(import_module(f"facedecode.attacks.{module}"), name)

    def budget(self, budget: Budget | None = None) -> Budget:
        """A budget with this method's defaults in the places left open.

        Raises UsageError: a field that this method has no use for: it would be dropped silently.
        """
        limits = {name: value for name, value in asdict(budget or Budget()).items() if value is not None}
        if unused := sorted(limits.keys() - self.defaults.keys()):
            known = ", ".join(item.name for item in fields(Budget) if item.name in self.defaults)
            raise UsageError(f"{self.name} has no use for {', '.join(unused)}: leave out all but {known}")
        return Budget(**{**self.defaults, **limits})


_FGSM = {"epsilon": 8 / 255, "kappa": 0.0}
_CW = {"kappa": 0.0, "learning_rate": 0.01, "max_gradients": None}
_ALL = (
    Method("tfgsm", "one step", "fgsm.one_step", _FGSM),
    Method(
        "itfgsm",
        "several steps",
        "fgsm.many_steps",
        {"steps": 20, "alpha": 1 / 255, "momentum": 0.0, "max_gradients": None, **_FGSM},
    ),
    Method("tcw", "smallest change", "carlini_wagner.carlini_wagner", {"steps": 200, "c": 1.0, **_CW}),
    Method(
        "itcw",
        "smallest change, c is searched for",
        "carlini_wagner.carlini_wagner",
        {"steps": 100, "c": 0.01, "search_steps": 9, **_CW},
    ),
    Method(
        "ddn",
        "smallest change, few steps",
        "ddn.decoupled_direction_and_norm",
        {"steps": 100, "kappa": 0.0, "max_gradients": None},
    ),
)
METHODS: Mapping[str, Method] = MappingProxyType({method.name: method for method in _ALL})


def find_method(name: str) -> Method:
    """An attack by its name; UsageError, with the known names, where there is none."""
    require_choice("method", name, [*METHODS])
    return METHODS[name]


def _limit(name: str, help: str, minimum: float, maximum: float, parse: Callable[[str], float] | None = None) -> Any:
    """A field of a budget; the help says what the methods take by default."""
    takers: dict[str, list[str]] = {}
    for method in METHODS.values():
        if (value := method.defaults.get(name)) is not None:
            shown = f"{value:g}" if parse is None else f"{value * 255:.0f}/255"
            takers.setdefault(shown, []).append(method.name)
    if takers:
        shared = [f"{value} for {some_of(names, 5)}" for value, names in takers.items()]
        everywhere = [value for value, names in takers.items() if names == [*METHODS]]
        help += f" Default: {'; '.join(everywhere or shared)}."
    declared = option(None, help, parse=parse, written=None if parse is None else str)
    return field(default=None, metadata={**declared.metadata, _LIMITS: (minimum, maximum)})


def _fraction(flag: str) -> Callable[[str], float]:
    """Reads a number, or a fraction such as 8/255. Raises UsageError."""

    def parse(text: str) -> float:
        above, slash, below = text.partition("/")
        try:
            return float(above) / float(below) if slash else float(above)
        except (ValueError, ZeroDivisionError):
            raise UsageError(f"{flag} {text}: give a number, or a fraction such as 8/255") from None

    return parse


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What an attack may spend on each picture. None stands for the method's default.

    Raises UsageError: a number that is negative, NaN or absurd.
    """

    epsilon: float | None = _limit(
        "epsilon", "Largest change of a pixel, on a scale from 0 to 1: 0.03 or 8/255.", 0, 1, _fraction("--epsilon")
    )
    steps: int | None = _limit("steps", "Steps in one run, each with one gradient.", 1, 100_000)
    alpha: float | None = _limit("alpha", "Change of a pixel in one step: 1/255.", 1e-9, 1, _fraction("--alpha"))
    momentum: float | None = _limit("momentum", "Share of earlier gradients that is kept (MI-FGSM's μ).", 0, 1)
    c: float | None = _limit("c", "Weight of the margin against the squared L2 distance.", 1e-10, 1e10)
    kappa: float | None = _limit("kappa", "Margin to reach, in logits or scores.", 0, 10_000)
    learning_rate: float | None = _limit("learning_rate", "Learning rate of Adam, in tanh space.", 1e-9, 10)
    search_steps: int | None = _limit("search_steps", "Values of c to try for each face.", 1, 50)
    max_gradients: int | None = _limit("max_gradients", "Gradients for one face in all its runs.", 1, 10_000_000)

    def __post_init__(self) -> None:
        for item in fields(self):
            value, (least, greatest) = getattr(self, item.name), item.metadata[_LIMITS]
            if value is None:
                continue
            whole = "int" in str(item.type)
            # NaN fails every comparison, and so is refused here too.
            number = isinstance(value, Real) and not isinstance(value, bool)
            if not (number and least <= value <= greatest and (not whole or value == int(value))):
                kind = "a whole number" if whole else "a number"
                raise UsageError(f"{item.name} {value}: give {kind} from {least:g} to {greatest:g}")
