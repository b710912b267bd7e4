"""What each evaluation is asked to do. Free of NumPy and torch: the command line makes its options of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facedecode.options import argument, option

REPETITIONS = 1000
ONLY_THESE_PEOPLE = "Only these people: a name a line, or LFW's format."
REPLICATES = "Replicates of the bootstrap by person."


@dataclass(frozen=True)
class AggregationJob:
    """How much more images a template help verification. `stores`: of the same images, one a recognizer."""

    stores: Sequence[Path] = argument("Stores of the same images, one a recognizer.")
    persons: int = option(50, "Take the people with most images: so many.", minimum=2)
    largest: int | None = option(
        None, "Images in a gallery template at most; half of what all have if absent.", minimum=2
    )
    fmrs: Sequence[float] = option((0.01, 0.001), "False match rate (repeatable).", "--far")
    draws: int = option(20, "Random choices of gallery and probes.", minimum=1)
    people: Path | None = option(None, ONLY_THESE_PEOPLE)
    repetitions: int = option(REPETITIONS, REPLICATES, minimum=100)
    seed: int = option(0, "Seed of everything random.", minimum=0)
