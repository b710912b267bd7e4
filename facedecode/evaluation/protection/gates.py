"""The figures of `evaluate protection` by the names that gates use; the names are known before the figures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from facedecode.errors import UsageError
from facedecode.evaluation.protection.measure import (
    KNOWN,
    LINKED,
    NOTHING,
    ONE_KEY,
    OWN_KEYS,
    RECOGNIZER,
    SYSTEM,
    UNKNOWN,
    UNPROTECTED,
    ProtectionFigures,
    scores_across_keys,
)
from facedecode.evaluation.protection.protected import Study
from facedecode.report.gates import Gate, figure_name
from facedecode.statistics.bootstrap import Estimate

Figure = Callable[[ProtectionFigures], Estimate]
TYPES = {"type1": "type_one", "type2": "type_two"}


def gate_figures(study: Study, fmrs: Sequence[float], further: Collection[str] = ()) -> dict[str, Figure]:
    """Name → what takes the figure from all of them. further: names of the recognizers that judge pictures, too.

    Plain names are the protected system's with one key, and the worst of several: scores and images, or judges and
    attackers without an unprotected template.
    """
    judges = [RECOGNIZER, *further, *([SYSTEM] if study.protect else [])] if study.training else []
    return {
        **dict(_accuracy([UNPROTECTED, ONE_KEY, *([OWN_KEYS] if study.protect_apart else [])], fmrs)),
        **dict(_linkage(scores_across_keys(study))),
        **dict(_inversion(judges, fmrs)),
    }


def require_figures(gates: Sequence[Gate], known: Collection[str]) -> None:
    """Refuse gates of figures that there will not be. Raises UsageError."""
    for gate in gates:
        if gate.name not in known:
            raise UsageError(f"--fail-if {gate.text!r}: no figure {gate.name!r} here; there are {', '.join(known)}")


def _accuracy(systems: Sequence[str], fmrs: Sequence[float]) -> Iterator[tuple[str, Figure]]:
    for system in systems:
        for which in ([system], []) if system == ONE_KEY else ([system],):
            yield figure_name("eer", which), lambda found, system=system: found.accuracy[system].eer
            for k, fmr in enumerate(fmrs):
                tar = lambda found, system=system, k=k: found.accuracy[system].tar["people"][k]  # noqa: E731
                yield figure_name("tar", which, far=fmr), tar


def _linkage(scores: Sequence[str]) -> Iterator[tuple[str, Figure]]:
    for word, part in (("linkability", "d_sys"), ("maximal_linkability", "maximal")):
        one = {
            (score, images): lambda found, key=(score, images), part=part: getattr(found.linkage[key], part)
            for score in scores
            for images in LINKED
        }
        for which, figure in one.items():
            yield figure_name(word, which), figure
        for images in LINKED:
            yield figure_name(word, [images]), _worst([figure for (_, of), figure in one.items() if of == images])
        yield figure_name(word), _worst(list(one.values()))


def _inversion(judges: Sequence[str], fmrs: Sequence[float]) -> Iterator[tuple[str, Figure]]:
    if not judges:
        return
    for word, kind in TYPES.items():
        for k, fmr in enumerate(fmrs):
            one = {
                (attacker, judge): lambda found, attacker=attacker, judge=judge, kind=kind, k=k: getattr(
                    found.inversion.rates[attacker][judge], kind
                )["people"][k]
                for attacker in (UNPROTECTED, KNOWN, UNKNOWN, NOTHING)
                for judge in judges
            }
            for which, figure in one.items():
                yield figure_name(word, which, fmr=fmr), figure
            for attacker in (KNOWN, UNKNOWN, UNPROTECTED):
                of = [figure for (who, _), figure in one.items() if who == attacker]
                yield figure_name(word, [attacker], fmr=fmr), _worst(of)
            of = [figure for (who, _), figure in one.items() if who in (KNOWN, UNKNOWN)]
            yield figure_name(word, fmr=fmr), _worst(of)


def _worst(figures: Sequence[Figure]) -> Figure:
    return lambda found: max((figure(found) for figure in figures), key=lambda estimate: estimate.value)
