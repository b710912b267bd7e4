"""The headline figures of docs/results once more, from stores of all of LFW, by code that is not facedecode's.

    python tests/oracles/headlines.py docs/results emb emb-edgeface --lfw ../shared/data/lfw --drawn drawn \
        --turned emb-rotate30

prints `figure, published, oracle, same within rounding` for each, and exits with 1 if one differs. `emb` and
`emb-edgeface` are the stores of docs/results/README.md; `drawn` is made by `drawn.py` and embedded by
`benchmarks/embed_pictures.py`; `emb-rotate30` is `facedecode extract … --transform rotate30`. Without these two,
their figures are left out. PYTHONPATH is `tests`.

Not here: what rests on random draws of the package (linkability by keys, aggregates, folds of leakage), and decoders
that are in no repository (`dfd`, `edgeface`).
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from oracles import pictures, rates, templates
from oracles.stores import Images, read_pairs, read_people, read_store

FMRS = ("0.01", "0.001", "0.0001")
RATE, DB, SSIM = 5e-5, 5e-3, 5e-4  # half of the last digit that reports print: 98.98 %, 13.95 dB, 0.461
REFIT = 1e-3  # fitted on another processor, ridge rounds a pixel otherwise now and then: a comparison or two
SAMPLING = 5e-3  # of 20 mated comparisons a person, and of 500,000 others
SCORE = 1e-5  # what another processor's rounding of templates, and float32, move a score by at most


class Figure(NamedTuple):
    """name: report and place in it. within: by how much rounding may let them differ."""

    name: str
    published: float
    oracle: float
    within: float

    @property
    def same(self) -> bool:
        return abs(self.published - self.oracle) <= self.within


class Report:
    """A published report.json, of which `figure` takes one value."""

    def __init__(self, results: Path, name: str):
        self.name = name
        self.metrics = json.loads((results / name / "report.json").read_text())["metrics"]

    def figure(self, place: str, oracle: float, within: float = RATE) -> Figure:
        value = self.metrics
        for key in place.split("/"):
            value = value[key]
        return Figure(f"{self.name}: {place}", float(value), float(oracle), within)


def near(scores: np.ndarray, threshold: float) -> int:
    """How many scores lie so near to a threshold that rounding may put them on the other side."""
    return int((np.abs(scores - threshold) <= SCORE).sum())


def accepted_figures(
    report: Report,
    places: dict[str, str],
    scores: np.ndarray,
    whose: list,
    refused: dict[str, float],
    within: float = RATE,
) -> Iterator[Figure]:
    """Rates by pair and by person. places: `pairs` and `people` → the place in the report, less the FMR."""
    for fmr, score in refused.items():
        accepted = scores > score
        if "pairs" in places:
            yield report.figure(f"{places['pairs']}/{fmr}/value", accepted.mean(), within)
            rounding = near(scores, score) + (within - RATE) * len(scores)
            yield report.figure(f"{places['pairs']}/{fmr}/accepted", accepted.sum(), rounding)
        yield report.figure(f"{places['people']}/{fmr}/value", rates.mean_by_person(accepted, whose), within)


def verification(results: Path, name: str, images: Images, recognizer: str) -> Iterator[Figure]:
    """All pairs of a store's images."""
    report, place = Report(results, name), f"recognizers/{recognizer}"
    mated, non_mated, whose = rates.all_pairs(images.templates, images.people, images.score)
    yield report.figure(f"{place}/counts/mated", len(mated), 0)
    yield report.figure(f"{place}/counts/non_mated", len(non_mated), 0)
    yield report.figure(f"{place}/failure_to_acquire/value", images.failed().mean(), RATE / 100)
    yield report.figure(f"{place}/eer/value", rates.equal_error_rate(mated, non_mated))
    refused = {fmr: rates.highest_refused(non_mated, fmr) for fmr in FMRS}
    for fmr, score in refused.items():
        yield report.figure(f"{place}/tar_at_far/{fmr}/threshold", score, SCORE)
        accepted = (non_mated > score).sum()
        yield report.figure(f"{place}/tar_at_far/{fmr}/false_accepts", accepted, near(non_mated, score))
    places = {"pairs": f"{place}/tar_at_far", "people": f"{place}/tar_at_far_by_person"}
    yield from accepted_figures(report, places, mated, whose, refused)


def view2(results: Path, file: Path, images: Images, recognizer: str) -> Iterator[Figure]:
    """LFW's 6,000 pairs in ten folds."""
    report, place = Report(results, "verification-view2"), f"recognizers/{recognizer}"
    row = {path: k for k, path in enumerate(images.paths)}
    pairs = read_pairs(file)
    scores = np.array(
        [rates.scores_of(images.templates[row[a]], images.templates[[row[b]]], images.score)[0] for a, b, _ in pairs]
    )
    people = [(images.people[row[a]], images.people[row[b]]) for a, b, _ in pairs]
    mated = np.array([one == other for one, other in people])
    folds = rates.accuracies_of_folds(scores, mated, np.array([fold for _, _, fold in pairs]))
    # Several thresholds may be equally good in training: what is published is right if some choice of them gives it.
    published = report.metrics["recognizers"][recognizer]["accuracy"]
    chosen = min(
        itertools.product(*({low, high} for low, high in folds)),
        key=lambda of_folds: (
            abs(np.mean(of_folds) - published["value"])
            + abs(rates.standard_error(of_folds) - published["standard_error"])
        ),
    )
    yield report.figure(f"{place}/accuracy/value", np.mean(chosen))
    yield report.figure(f"{place}/accuracy/standard_error", rates.standard_error(chosen))
    used = sorted({row[path] for a, b, _ in pairs for path in (a, b)})
    yield report.figure(f"{place}/failure_to_acquire/value", images.failed()[used].mean(), RATE / 100)
    yield report.figure(f"{place}/eer/value", rates.equal_error_rate(scores[mated], scores[~mated]))
    refused = {fmr: rates.highest_refused(scores[~mated], fmr) for fmr in FMRS[:2]}
    whose = [one for (one, _), same in zip(people, mated, strict=True) if same]
    places = {"pairs": f"{place}/tar_at_far", "people": f"{place}/tar_at_far_by_person"}
    yield from accepted_figures(report, places, scores[mated], whose, refused)


def security(results: Path, drawn: Path, judges: dict[str, Images]) -> Iterator[Figure]:
    """Type I and II, before the recognizer itself and others, and identification."""
    report = Report(results, "security")
    for judge, images in judges.items():
        mated, non_mated, whose = rates.all_pairs(images.templates, images.people, images.score)
        refused = {fmr: rates.highest_refused(non_mated, fmr) for fmr in ("0.1", *FMRS)}
        places = {kind: f"recognizers/{judge}/tar/{kind}" for kind in ("pairs", "people")}
        yield from accepted_figures(report, places, mated, whose, refused)
        gallery = rates.enrolled(images.paths, images.people, images.failed())
        enrolled = list(gallery)
        second = [row for row, name in enumerate(images.people) if gallery.get(name) != row]
        of_second = [images.people[row] for row in second]
        first = list(gallery.values())
        sources = {path.name.split(".")[0]: np.load(path) for path in sorted(drawn.glob(f"*.{judge}.npy"))}
        for source, found in {"real images": images.templates, **sources}.items():
            if source == "originals":
                continue
            probes, within = found.astype(np.float64), REFIT if source == "ridge" else RATE
            for kind, rows, names in (("other_image", second, of_second), ("same_image", first, enrolled)):
                if source == "real images" and kind == "same_image":
                    continue
                ranks = np.array(rates.ranks(probes[rows], names, images.templates[first], enrolled, images.score))
                place = f"identification/{judge}/rates/{source}/{kind}"
                for rank in (1, 5, 10):
                    yield report.figure(f"{place}/pairs/rank{rank}/value", (ranks <= rank).mean(), within)
                    by_person = rates.mean_by_person(ranks <= rank, names)
                    yield report.figure(f"{place}/people/rank{rank}/value", by_person, within)
            if source == "real images":
                continue
            place = f"attacks/{source}/{judge}"
            one = rates.type_one(probes, images.templates, images.score)
            places = {kind: f"{place}/type_one/{kind}" for kind in ("pairs", "people")}
            yield from accepted_figures(report, places, one, images.people, refused, within)
            two, of_two = rates.type_two(probes, images.templates, images.people, images.score)
            places = {kind: f"{place}/type_two/{kind}" for kind in ("pairs", "people")}
            yield from accepted_figures(report, places, two, of_two, refused, within)


def reconstruction(results: Path, drawn: Path, judges: dict[str, Images]) -> Iterator[Figure]:
    """Pictures against the portraits of their originals, pixel by pixel and by template."""
    report = Report(results, "reconstruction")
    originals = np.load(drawn / "originals.npy")
    for decoder in ("mean-face", "nearest", "ridge", "ridge-by-numpy", "shipped"):
        faces = np.load(drawn / f"{decoder}.npy")
        pairs = list(zip(faces, originals, strict=True))
        values = np.array([pictures.psnr(*pair) for pair in pairs])
        place = f"decoders/{decoder.removesuffix('-by-numpy')}"
        yield report.figure(f"{place}/psnr/value", values[np.isfinite(values)].mean(), DB)
        yield report.figure(f"{place}/psnr/infinite", np.isinf(values).sum(), 0)
        yield report.figure(f"{place}/ssim/value", np.mean([pictures.ssim(*pair) for pair in pairs]), SSIM)
        for judge, images in judges.items() if decoder != "ridge-by-numpy" else ():
            embedded = np.load(drawn / f"{decoder}.{judge}.npy").astype(np.float64)
            score = rates.type_one(embedded, images.templates, images.score).mean()
            yield report.figure(f"{place}/scores/{judge}/value", score, SSIM)


def maps(results: Path, turned: Images, images: Images, lfw: Path) -> Iterator[Figure]:
    """What Eq. 6 undoes of rotate30: cross-fitted over View 2's ten sets, and fitted on DevTrain for DevTest."""
    if turned.paths != images.paths:
        raise SystemExit("the perturbed store is not of the same images")
    original, perturbed, people = images.templates, turned.templates, np.array(images.people)
    both = ~images.failed() & ~turned.failed()
    sets = [np.isin(people, sorted(own)) for own in read_people(lfw / "protocol" / "people.txt")]
    undone = np.empty_like(perturbed)  # NaN, and so matched by nobody, where there is no template
    for own in sets:
        fit = both & ~own
        undone[own] = templates.mapped(templates.fitted_map(perturbed[fit], original[fit]), perturbed[own])
    report = Report(results, "table2")
    share = templates.displacement_undone(original[both], perturbed[both], undone[both])
    yield report.figure("recognizers/dlib-resnet/displacement_undone/rotate30/linear/value", share, RATE)

    at = {path: k for k, path in enumerate(images.paths)}
    pairs = read_pairs(lfw / "protocol" / "pairs.txt")
    of_path = dict(zip(images.paths, images.people, strict=True))
    mated = np.array([of_path[a] == of_path[b] for a, b, _ in pairs])
    whose = [of_path[a] for (a, _, _), same in zip(pairs, mated, strict=True) if same]
    for name, seconds in (("none", perturbed), ("linear", undone)):
        scores = np.array([rates.scores_of(original[at[a]], seconds[[at[b]]], images.score)[0] for a, b, _ in pairs])
        place = f"recognizers/dlib-resnet/listed/rows/rotate30/{name}"
        yield report.figure(f"{place}/eer/value", rates.equal_error_rate(scores[mated], scores[~mated]))
        refused = {fmr: rates.highest_refused(scores[~mated], fmr) for fmr in FMRS[:2]}
        places = {"pairs": f"{place}/tar_at_far", "people": f"{place}/tar_at_far_by_person"}
        yield from accepted_figures(report, places, scores[mated], whose, refused)

        mated_scores, others, of_mated = [], [], []
        for own in sets:
            for k in np.flatnonzero(own):
                values = rates.scores_of(original[k], seconds[own], images.score)
                same, itself = people[own] == people[k], np.flatnonzero(own) == k
                mated_scores.append(values[same & ~itself])
                of_mated += [people[k]] * int((same & ~itself).sum())
                others.append(values[~same])
        found, non_mated = np.concatenate(mated_scores), np.concatenate(others)
        place = f"recognizers/dlib-resnet/sets/rows/rotate30/{name}"
        refused = {fmr: rates.highest_refused(non_mated, fmr) for fmr in FMRS}
        places = {"pairs": f"{place}/tar_at_far", "people": f"{place}/tar_at_far_by_person"}
        yield from accepted_figures(report, places, found, of_mated, refused)

    devtrain = read_people(lfw / "protocol" / "peopleDevTrain.txt")[0] - {"George_W_Bush"}
    devtest = read_people(lfw / "protocol" / "peopleDevTest.txt")[0]
    fit, judged = both & np.isin(people, sorted(devtrain)), both & np.isin(people, sorted(devtest))
    back = templates.mapped(templates.fitted_map(perturbed[fit], original[fit]), perturbed[judged])
    report = Report(results, "equivariance-dlib")
    share = templates.displacement_undone(original[judged], perturbed[judged], back)
    yield report.figure("transforms/rotate30/undone/value", share)


def protection(results: Path, images: Images) -> Iterator[Figure]:
    """A rotation by one key for all keeps every distance, and so every rate."""
    mated, non_mated, whose = rates.all_pairs(images.templates, images.people, images.score)
    refused = {fmr: rates.highest_refused(non_mated, fmr) for fmr in FMRS[:2]}
    report = Report(results, "protection-rotation")
    for system in ("unprotected", "one-key"):
        yield report.figure(f"accuracy/{system}/eer/value", rates.equal_error_rate(mated, non_mated))
        places = {kind: f"accuracy/{system}/tar_at_fmr/{kind}" for kind in ("pairs", "people")}
        yield from accepted_figures(report, places, mated, whose, refused)


def linkability_of_lengths(results: Path, images: Images) -> Iterator[Figure]:
    """A rotation keeps lengths, so what they link needs no key. Of all comparisons; the package draws some of them."""
    report = Report(results, "protection-rotation")
    lengths = np.linalg.norm(images.templates, axis=1)
    names, count = np.unique(images.people, return_inverse=True, return_counts=True)[1:]
    for kind, fewest in (("different-images", 2), ("same-image", 1)):
        rows = np.flatnonzero(count[names] >= fewest)  # the people who have mated comparisons
        one, other = (rows[part] for part in np.triu_indices(len(rows), 1))
        scores, same = -np.abs(lengths[one] - lengths[other]), names[one] == names[other]
        each = count[names]  # all people alike, and all two people alike
        of_others = 1 / (each[one] * each[other])[~same]
        mated, of_mated = scores[same], 1 / (each * (each - 1))[one[same]]
        if kind == "same-image":
            mated, of_mated = np.zeros(len(rows)), 1 / each[rows]
        d_sys, bits = templates.linkability(mated, scores[~same], (of_mated, of_others))
        yield report.figure(f"linkability/length/{kind}/d_sys_raw", d_sys, SAMPLING)
        yield report.figure(f"linkability/length/{kind}/maximal_linkability_raw", bits, SAMPLING)


def clusters(images: Images) -> Iterator[Figure]:
    """DevTest by average linkage, cut at 0.5 (docs/templates.md)."""
    points = images.templates
    distances = np.stack([-rates.scores_of(point, points, images.score) for point in points])
    labels = templates.agglomerated(distances, np.ones(len(points)), "average", 0.5)
    precision, recall = templates.bcubed(labels, images.people)
    yield Figure("docs/templates.md: clusters of DevTest", 1818, len(set(labels)), 0)
    yield Figure("docs/templates.md: adjusted Rand index", 0.930, templates.adjusted_rand(labels, images.people), SSIM)
    yield Figure("docs/templates.md: BCubed precision", 0.970, precision, SSIM)
    yield Figure("docs/templates.md: BCubed recall", 0.905, recall, SSIM)


def figures(arguments: argparse.Namespace) -> Iterator[Figure]:
    results, protocol = arguments.results, arguments.lfw / "protocol"
    stores = {"dlib-resnet": read_store(arguments.emb), "edgeface-xxs": read_store(arguments.emb_edgeface)}
    devtest = read_people(protocol / "peopleDevTest.txt")[0]
    judged = {name: images.of(devtest) for name, images in stores.items()}
    for name, images in stores.items():
        yield from view2(results, protocol / "pairs.txt", images, name)
        yield from verification(results, "verification-devtest", judged[name], name)
    yield from protection(results, judged["dlib-resnet"])
    yield from linkability_of_lengths(results, judged["dlib-resnet"])
    yield from clusters(judged["dlib-resnet"])
    if arguments.drawn:
        yield from reconstruction(results, arguments.drawn, judged)
        yield from security(results, arguments.drawn, judged)
    if arguments.turned:
        yield from maps(results, read_store(arguments.turned), stores["dlib-resnet"], arguments.lfw)
    for name, images in stores.items():
        yield from verification(results, "verification-lfw", images, name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("emb", type=Path)
    parser.add_argument("emb_edgeface", type=Path)
    parser.add_argument("--lfw", type=Path, required=True)
    parser.add_argument("--drawn", type=Path)
    parser.add_argument("--turned", type=Path)
    found, differ = 0, 0
    print("figure, published, oracle, same within rounding")
    for figure in figures(parser.parse_args()):
        found, differ = found + 1, differ + (not figure.same)
        same = "yes" if figure.same else "NO"
        print(f"{figure.name}, {figure.published:.9g}, {figure.oracle:.9g}, {same}", flush=True)
    print(f"{found} figures, {differ} differ")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
