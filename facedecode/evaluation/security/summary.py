"""What a security evaluation comes to: headlines, figures for gates, and all figures as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from facedecode.evaluation.security.measure import OTHER, RANKS, REAL, SAME, SecurityFigures
from facedecode.evaluation.security.pairs_curve import KINDS as CURVE_KINDS
from facedecode.evaluation.security.words import TYPES, percent
from facedecode.report import Headline
from facedecode.report.gates import figure_name
from facedecode.statistics.bootstrap import Estimate, RateAtFmr
from facedecode.statistics.security import SecurityRates
from facedecode.statistics.verification import failure_to_acquire


def worst(figures: SecurityFigures, kind: str, fmr: float, transfer: bool = False) -> tuple[str, str, RateAtFmr] | None:
    """(decoder, recognizer, rate): the highest person-weighted success of a type.

    Against the recognizer that made the templates; transfer: against other networks. None where there is no such
    figure.
    """
    found = [
        (decoder, target, rate)
        for (decoder, target), rates in figures.rates.items()
        if (figures.is_transfer(decoder, target) if transfer else target == figures.made_by[decoder])
        and (rate := rate_at(rates, kind, fmr)) is not None
    ]
    return max(found, key=lambda item: item[2].value, default=None)


def rate_at(rates: SecurityRates, kind: str, fmr: float, by: str = "people") -> RateAtFmr | None:
    return next((rate for rate in getattr(rates, kind).get(by, ()) if rate.fmr_wanted == fmr), None)


def headlines(figures: SecurityFigures) -> list[Headline]:
    fmr, lines = figures.headline_fmr, []
    for transfer in (False, True):
        for kind in ("type_two", "type_one"):
            if (found := worst(figures, kind, fmr, transfer)) is None:
                continue
            decoder, target, rate = found
            made = figures.made_by[decoder]
            what = f"transfer from {made} to {target}" if transfer else f"against {target} itself"
            title = f"Success of {TYPES[kind]} at FMR {percent(fmr)}, {'transfer' if transfer else 'same recognizer'}"
            lines.append(Headline(title, rate, "percent", f"{decoder}, {what}{_of(figures)}"))
    for target in figures.judges:
        if tar := own_tar(figures, target, fmr):
            title = f"TAR of {target} on real pairs at FMR {percent(fmr)}"
            lines.append(Headline(title, tar, "percent", "what type II can hope for"))
    if found := _worst_rank(figures):
        decoder, target, rate = found
        size = figures.identification[target].gallery
        note = f"{decoder}, against {target} itself{_of(figures)}; gallery of {size:,}, chance {percent(1 / size, 2)}"
        lines.append(Headline("Rank-1 identification by another image's reconstruction", rate, "percent", note))
    return lines


def _of(figures: SecurityFigures) -> str:
    """What a headline of several decoders is."""
    count = len(figures.decoders)
    return f"; the highest of {count} decoders, with that decoder's own interval" if count > 1 else ""


def own_tar(figures: SecurityFigures, target: str, fmr: float, by: str = "people") -> RateAtFmr | None:
    """A recognizer's own TAR; the same whatever the decoder."""
    return rate_at(figures.rates[next(iter(figures.decoders)), target], "mated", fmr, by)


def _worst_rank(figures: SecurityFigures) -> tuple[str, str, Estimate] | None:
    found = [
        (decoder, made, figures.identification[made].ranks[decoder][OTHER]["people"][0])
        for decoder, made in figures.made_by.items()
        if OTHER in figures.identification[made].ranks[decoder]
    ]
    return max(found, key=lambda item: item[2].value, default=None)


def gate_names(decoders: Sequence[str], recognizers: Sequence[str], fmrs: Sequence[float]) -> set[str]:
    """The names of the figures that gates can ask for; `gates` has those of them that there is a number for."""
    pairs = [[decoder, target] for decoder in decoders for target in recognizers]
    found = {"rank1", *(figure_name(word, pair) for word in ("rank1", "rank1_same") for pair in pairs)}
    for fmr in fmrs:
        found |= {figure_name(word, which, fmr=fmr) for word in ("type1", "type2") for which in ([], *pairs)}
        found |= {name for target in recognizers for name in _tar_names(target, recognizers, fmr)}
    return found


def _tar_names(target: str, recognizers: Sequence[str], fmr: float) -> Iterator[str]:
    """A recognizer's TAR in every spelling; without its name where it is the only one."""
    for which in ([target],) if len(recognizers) > 1 else ([target], []):
        yield figure_name("tar", which, fmr=fmr)
        yield figure_name("tar", which, far=fmr)


def gates(figures: SecurityFigures) -> Iterator[tuple[str, Estimate]]:
    """The figures that gates can ask for, by `gate_names`' names."""
    for (decoder, target), rates in figures.rates.items():
        for kind, word in (("type_one", "type1"), ("type_two", "type2")):
            for rate in getattr(rates, kind).get("people", ()):
                yield figure_name(word, [decoder, target], fmr=rate.fmr_wanted), rate
    for fmr in figures.fmrs:
        for kind, word in (("type_one", "type1"), ("type_two", "type2")):
            if found := worst(figures, kind, fmr):
                yield figure_name(word, fmr=fmr), found[2]
        for target in figures.judges:
            if tar := own_tar(figures, target, fmr):
                yield from ((name, tar) for name in _tar_names(target, list(figures.judges), fmr))
    for target, found in figures.identification.items():
        for source, probes in found.ranks.items():
            for probe, word in ((OTHER, "rank1"), (SAME, "rank1_same")):
                if source != REAL and probe in probes:
                    yield figure_name(word, [source, target]), probes[probe]["people"][0]
    if found := _worst_rank(figures):
        yield "rank1", found[2]


def metrics(figures: SecurityFigures) -> dict:
    """attacks: decoder → recognizer → type → weighting → FMR → figure; the others alike."""
    attacks: dict = {name: {} for name in figures.decoders}
    for (decoder, target), rates in figures.rates.items():
        attacks[decoder][target] = {kind: found for kind, found in rates.as_json().items() if kind in TYPES}
    identification = {
        target: {
            "gallery": found.gallery,
            "people": found.people,
            "chance": 1 / found.gallery,
            "rates": {
                source: {
                    probe: {
                        by: {f"rank{k}": e.as_json() for k, e in zip(RANKS, row, strict=True)}
                        for by, row in weightings.items()
                    }
                    for probe, weightings in probes.items()
                }
                for source, probes in found.ranks.items()
            },
        }
        for target, found in figures.identification.items()
    }
    recognizers = {
        target: {
            "tar": figures.rates[next(iter(figures.decoders)), target].as_json().get("mated", {}),
            "failure_to_acquire": {
                "value": failure_to_acquire(judge.missing),
                "failed": int(judge.missing.sum()),
                "n": len(judge.missing),
            },
        }
        for target, judge in figures.judges.items()
    }
    metrics = {"attacks": attacks, "recognizers": recognizers, "identification": identification}
    if figures.curve:
        curve: dict = {kind: {target: {} for target in figures.judges} for kind in CURVE_KINDS}
        for point in figures.curve:
            curve[point.decoder][point.recognizer][str(point.pairs)] = {
                "fmr": figures.headline_fmr,
                "draws": point.draws,
                "by_draw": point.by_draw,
                **{
                    kind: {by: rate.as_json() for by, rate in getattr(point, kind).items()}
                    for kind in TYPES
                    if getattr(point, kind)
                },
            }
        metrics["pairs_curve"] = curve
    return metrics
