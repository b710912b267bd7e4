"""`evaluate verification`: what is compared, figures against loops, groups of people, bad input, the report."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import scipy.stats
from rates import tar_at_fmr
from typer.testing import CliRunner

from facedecode.annotations.labels import PersonLabels, read_person_labels
from facedecode.annotations.pairs import read_pairs
from facedecode.cli import app
from facedecode.errors import BadInput, UsageError
from facedecode.evaluation.trials import AllPairs, Comparisons, PairsFile
from facedecode.evaluation.verification.measure import VerificationSettings, differential_rates, verification_figures
from facedecode.evaluation.verification.report import (
    evaluate_trials,
    trials_schema,
    verification_result,
)
from facedecode.files import sha256_file
from facedecode.identity import RecognizerId
from facedecode.mapping.maps import Mapping, load_mapping
from facedecode.report.text import slugs
from facedecode.statistics.bootstrap import person_draws
from facedecode.statistics.pair_rates import Trials, rates_at_threshold
from facedecode.statistics.resampling import NonMated
from facedecode.statistics.scores import score_pairs
from facedecode.statistics.verification import roc, thresholds_at_fmr
from facedecode.store import Store, StoreWriter
from facedecode.templates.transformation import MappedStore

PEOPLE = {"ann": 4, "bob": 3, "cyd": 2, "dan": 1, "eve": 3, "fay": 2, "gus": 1, "hal": 5}
PAIRS = """2\t2
ann 1 2
bob 1 3
ann 1 bob 2
cyd 1 dan 1
eve 1 3
hal 2 4
eve 2 hal 5
fay 1 gus 1
"""


def write_store(
    folder, people=None, failed=(), name="tiny", spread=0.6, seed=0, ending="jpg", change=None, root="/faces", **more
):
    """A store of made-up templates, and of `failed` images; change(rows, templates) alters them first.

    more: of the manifest.
    """
    generator = np.random.default_rng(seed)
    rows, templates = [], []
    for person, count in (people or PEOPLE).items():
        center = generator.normal(size=6)
        for number in range(1, count + 1):
            path = f"{person}/{person}_{number:04d}.{ending}"
            template = center + spread * generator.normal(size=6)
            if path not in failed:
                rows.append({"path": path, "identity": person, "sha256": f"{path} {root}"})
                templates.append(template.astype(np.float32))
    if change:
        change(rows, templates)
    failures = [{"path": path, "stage": "detect", "reason": "no face found"} for path in failed]
    recognizer = RecognizerId(name, hashlib.sha256(name.encode()).hexdigest(), score="cosine")
    manifest = {"score": "cosine", "transform": None, "precision": "fp32", "l2_normalized": False, **more}
    with StoreWriter(folder, {"made": f"{folder.name} {seed}"}, Path(root), recognizer, manifest=manifest) as writer:
        writer.append(np.stack(templates), rows, failures, len(rows) + len(failures))
        writer.finish()
    return Store.open(folder)


@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path / "emb", failed=["hal/hal_0005.jpg"])


@pytest.fixture
def pairs(tmp_path):
    (tmp_path / "pairs.txt").write_text(PAIRS)
    return read_pairs(tmp_path / "pairs.txt")


def score_of(store, a, b):
    rows = dict(zip(store.paths(), store.templates(), strict=True))
    if a not in rows or b not in rows:
        return -np.inf
    return score_pairs(rows[a][None], rows[b][None], "cosine")[0]


# What is compared


def test_pairs_are_scored_as_the_file_says(store, pairs):
    made = PairsFile(pairs, "pairs.txt").compare(store)
    expected = [score_of(store, a, b) for a, b in zip(pairs.left, pairs.right, strict=True)]
    assert made.folds.scores.tolist() == expected and made.folds.fold.tolist() == [0] * 4 + [1] * 4
    assert made.mated.scores.tolist() == [expected[k] for k in (0, 1, 4, 5)]
    assert made.non_mated.scores.tolist() == [expected[k] for k in (2, 3, 6, 7)]
    assert [made.people[k] for k in made.mated.people] == ["ann", "bob", "eve", "hal"]
    assert expected[6] == -np.inf and (made.missing.sum(), len(made.missing)) == (1, 15)


def test_ignored_failures_leave_their_pairs_out_and_are_counted(store, pairs):
    made = PairsFile(pairs, "pairs.txt").compare(store, ignore_failures=True)
    assert len(made.folds.scores) == 7 and np.isfinite(made.folds.scores).all()
    assert made.left_out == {"pairs with an image without a template": 1} and made.missing.sum() == 1


def test_images_of_pairs_that_a_store_has_not_are_refused_or_left_out(tmp_path, pairs):
    store = write_store(tmp_path / "some", {name: n for name, n in PEOPLE.items() if name != "gus"})
    with pytest.raises(BadInput, match=r"1 of the 15 images .* \(gus/gus_0001.jpg\).*--ignore-missing"):
        PairsFile(pairs, "pairs.txt").compare(store)
    made = PairsFile(pairs, "pairs.txt", ignore_missing=True).compare(store)
    assert len(made.folds.scores) == 7 and len(made.missing) == 14 and not made.missing.any()
    assert made.left_out == {"pairs with images that are not in the store": 1} and "gus" in made.warnings[0]


def test_pairs_listed_twice_and_of_one_picture_are_said(tmp_path):
    (tmp_path / "pairs.txt").write_text("\ufeff2\nann 1 2\nann 2 1\nann 1 bob 2\nann 3 bob 1\n", encoding="utf-8")
    store = write_store(tmp_path / "emb", change=lambda rows, _: rows[4].update(sha256=rows[2]["sha256"]))
    made = PairsFile(read_pairs(tmp_path / "pairs.txt"), "pairs.txt").compare(store)
    again, same = made.warnings
    assert again.startswith("1 pair is listed again") and same.startswith("1 pair is of one picture twice")


def test_pairs_find_images_with_another_extension(tmp_path, pairs):
    store = write_store(tmp_path / "png", ending="png")
    assert np.isfinite(PairsFile(pairs, "pairs.txt").compare(store).folds.scores).all()
    both = dict.fromkeys([*store.paths(), *(path.replace(".png", ".webp") for path in store.paths())])
    with pytest.raises(BadInput, match=r"ann_0001\.png and ann/ann_0001\.webp are both called 'ann/ann_0001\.jpg'"):
        pairs.found_in(both, both)


def as_table(pairs, change=lambda k: k):
    """The same pairs by path, with a label and a fold."""
    columns = zip(pairs.left, pairs.right, pairs.mated, pairs.fold, strict=True)
    rows = [f"{a};./{b};{change(int(same))};{fold}" for a, b, same, fold in columns]
    return "\n".join(["img1;img2;same;fold", *rows]) + "\n"


def test_pairs_by_path_give_what_lfws_format_gives(tmp_path, store, pairs):
    (tmp_path / "pairs.csv").write_text(as_table(pairs))
    made = PairsFile(read_pairs(tmp_path / "pairs.csv"), "pairs.csv").compare(store)
    usual = PairsFile(pairs, "pairs.txt").compare(store)
    np.testing.assert_array_equal(made.non_mated.scores, usual.non_mated.scores)
    for one, other in ((made.mated, usual.mated), (made.folds, usual.folds)):
        for name in vars(one):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (made.people, made.lost, made.warnings) == (usual.people, usual.lost, [])  # hal/hal_0005.jpg failed


def test_pairs_that_contradict_the_people_are_left_out_and_told(tmp_path, store, pairs):
    text = as_table(pairs).replace("bob_0003.jpg;1", "bob_0003.jpg;0")
    (tmp_path / "pairs.csv").write_text(text)
    made = PairsFile(read_pairs(tmp_path / "pairs.csv"), "pairs.csv").compare(store)
    assert made.left_out == {"pairs whose label contradicts the people": 1} and len(made.folds.scores) == 7
    assert (
        "1 of 8 pairs contradict" in made.warnings[0] and "bob/bob_0003.jpg, non-mated in pairs.csv" in made.warnings[0]
    )
    (tmp_path / "pairs.csv").write_text(as_table(pairs, lambda same: 1 - same))
    with pytest.raises(BadInput, match=r"8 of 8 pairs contradict .* are the labels the right way round"):
        PairsFile(read_pairs(tmp_path / "pairs.csv"), "pairs.csv").compare(store)


def test_pairs_of_images_whose_people_nobody_names(tmp_path, pairs):
    flat = write_store(tmp_path / "emb", change=lambda rows, _: [row.update(identity=None) for row in rows])
    (tmp_path / "pairs.csv").write_text(as_table(pairs))
    made = PairsFile(read_pairs(tmp_path / "pairs.csv"), "pairs.csv").compare(flat)
    usual = PairsFile(pairs, "pairs.txt").compare(flat)
    np.testing.assert_array_equal(made.mated.scores, usual.mated.scores)
    assert len(set(made.mated.people)) == 4 and made.left_out == {}


def test_two_faces_of_one_picture_are_no_mated_comparison(tmp_path):
    def of_one_picture(rows, _):
        rows[1].update(path=rows[0]["path"], sha256=None)
        rows[0].update(sha256=None)

    store = write_store(tmp_path / "emb", {"ann": 3, "bob": 2}, change=of_one_picture)
    made = AllPairs().compare(store)
    assert made.left_out == {"mated pairs of a picture with itself": 1} and len(made.mated.scores) == 3
    # Two people in one picture are two people, and no picture is there under two names.
    two = write_store(
        tmp_path / "two", {"ann": 3, "bob": 2}, change=lambda rows, _: rows[3].update(path=rows[0]["path"], sha256=None)
    )
    assert AllPairs().compare(two).warnings == []
    (tmp_path / "pairs.csv").write_text("ann/ann_0001.jpg,ann/ann_0003.jpg,1\nann/ann_0003.jpg,bob/bob_0002.jpg,0\n")
    with pytest.raises(BadInput, match=r"ann/ann_0001\.jpg\), and nothing tells which is meant"):
        PairsFile(read_pairs(tmp_path / "pairs.csv"), "pairs.csv").compare(two)


def test_all_pairs_equal_loops_with_failures_as_non_matches(store):
    made = AllPairs().compare(store)
    images = [(row, None) for row in store.paths()] + [("hal/hal_0005.jpg", None)]
    names = [path.split("/")[0] for path, _ in images]
    mated, others = [], []
    for i, (a, _) in enumerate(images):
        for j, (b, _) in enumerate(images[:i]):
            (mated if names[i] == names[j] else others).append(score_of(store, a, b))
    assert np.allclose(sorted(made.mated.scores), sorted(mated), atol=1e-6)
    assert np.allclose(sorted(made.non_mated.scores), sorted(others), atol=1e-6)
    assert np.isneginf(made.mated.scores).sum() == 4 and made.left_out == {}
    ignored = AllPairs().compare(store, ignore_failures=True)
    assert len(ignored.mated.scores) == len(mated) - 4 and np.isfinite(ignored.non_mated.scores).all()
    assert ignored.left_out == {"images without a template": 1} and ignored.missing.sum() == 1


def test_people_restrict_all_pairs_and_unknown_ones_are_said(store, tmp_path):
    (tmp_path / "people.txt").write_text("4\nann 4\nhal 5\nzoe 2\nyan 1\n")
    made = AllPairs(tmp_path / "people.txt").compare(store)
    assert (made.people, len(made.mated.scores), len(made.non_mated.scores)) == (["ann", "hal"], 6 + 10, 20)
    assert len(made.warnings) == 1 and made.warnings[0].startswith("2 of the 4 people of people.txt are not in")


def test_a_picture_is_not_compared_with_itself(tmp_path):
    def one_file(rows, templates):
        rows[1]["sha256"] = rows[0]["sha256"]

    def two_names(rows, templates):
        rows[4]["sha256"] = rows[0]["sha256"]

    made = AllPairs().compare(write_store(tmp_path / "one", {"ann": 3, "bob": 2}, change=one_file))
    assert len(made.mated.scores) == 3 and made.left_out == {"mated pairs of a picture with itself": 1}
    made = AllPairs().compare(write_store(tmp_path / "two", {"ann": 3, "bob": 2}, change=two_names))
    assert len(made.mated.scores) == 4 and "two people's names (the first: ann and bob)" in made.warnings[0]


def test_gallery_and_probes(tmp_path):
    gallery = write_store(tmp_path / "gallery", {"ann": 2, "bob": 1})
    probes = write_store(tmp_path / "probes", {"ann": 3, "cyd": 1}, seed=1, root="/elsewhere")
    made = AllPairs(probes=probes).compare(gallery)
    assert (len(made.mated.scores), len(made.non_mated.scores), made.left_out) == (6, 6, {})
    same_pictures = write_store(tmp_path / "again", {"ann": 3, "cyd": 1}, seed=1)
    made = AllPairs(probes=same_pictures).compare(gallery)
    assert (len(made.mated.scores), len(made.non_mated.scores)) == (4, 6)
    assert made.left_out == {"mated pairs of a picture with itself": 2} and "among the probes" in made.warnings[0]


def test_probes_of_another_recognizer_or_of_the_gallery_itself_are_refused(store, tmp_path):
    with pytest.raises(BadInput, match=r"for other .* of one recognizer"):
        AllPairs(probes=write_store(tmp_path / "other", name="other")).compare(store)
    with pytest.raises(BadInput, match="the gallery again"):
        AllPairs(probes=Store.open(store.folder)).compare(store)


def test_the_second_images_of_pairs_can_come_from_another_store(store, tmp_path, pairs):
    probes = write_store(tmp_path / "probes", failed=["eve/eve_0002.png", "gus/gus_0001.png"], seed=1, ending="png")
    made = PairsFile(pairs, "pairs.txt", probes=probes).compare(store)
    own, others = (dict(zip(one.paths(), one.templates(), strict=True)) for one in (store, probes))
    expected = []
    for a, b in zip(pairs.left, pairs.right, strict=True):
        b = b.replace(".jpg", ".png")
        there = a in own and b in others
        expected.append(score_pairs(own[a][None], others[b][None], "cosine")[0] if there else -np.inf)
    assert made.folds.scores.tolist() == expected
    # hal_0005 is a second image, and the probes have it; eve_0002 is a first one, and the store has it.
    assert np.isneginf(expected).sum() == 1 and [path for path, *_ in made.lost] == ["gus/gus_0001.png"]
    assert (made.missing.sum(), len(made.missing)) == (1, 7 + 8)


def test_images_that_the_probes_lack_are_counted(tmp_path, pairs, store):
    probes = write_store(tmp_path / "some", {name: n for name, n in PEOPLE.items() if name not in ("gus", "dan")})
    with pytest.raises(BadInput, match=r"some: 2 of the 8 images .* not in the store of probes \(dan/dan_0001"):
        PairsFile(pairs, "pairs.txt", probes=probes).compare(store)
    made = PairsFile(pairs, "pairs.txt", ignore_missing=True, probes=probes).compare(store)
    assert made.left_out == {"pairs with images that are not in the store of probes": 2}
    assert [image[2] for image in made.lost] == 2 * ["not in the store of probes"] and len(made.folds.scores) == 6


def test_no_mated_or_no_non_mated_pairs_are_refused(tmp_path, pairs):
    with pytest.raises(BadInput, match="no mated pairs: nobody has two images"):
        AllPairs().compare(write_store(tmp_path / "singles", {"ann": 1, "bob": 1}))
    with pytest.raises(BadInput, match="no non-mated pairs: there is one person only"):
        AllPairs().compare(write_store(tmp_path / "one", {"ann": 3}))
    lost = write_store(
        tmp_path / "lost", failed=[path for path in pairs.left if path[:3] in ("ann", "bob", "eve", "hal")]
    )
    with pytest.raises(BadInput, match=r"pairs\.txt: no mated pairs"):
        PairsFile(pairs, "pairs.txt").compare(lost, ignore_failures=True)


def test_images_without_identity_are_refused(tmp_path):
    store = write_store(tmp_path / "emb", change=lambda rows, _: rows[3].update(identity=None))
    with pytest.raises(BadInput, match=r"1 of 21 images have no identity \(ann/ann_0004.jpg\)"):
        AllPairs().compare(store)


# Figures


def reported(figures, wanted=None):
    """JSON and warnings of one recognizer's figures."""
    result = verification_result({"tiny": figures}, wanted or VerificationSettings())
    return result.as_json(), result.report().warnings


def without_each(people):
    """The weights of a jackknife."""
    return list(1 - np.eye(people, dtype=int))


def bca(values, repetitions, level=0.95):
    """Efron's (1987) interval with Student's t in place of the normal deviate, by scipy and in loops.

    values: the figure, in the data, in the replicates, and without each person.
    """
    value, drawn, left_out = values[0], values[1 : 1 + repetitions], values[1 + repetitions :]
    drawn, left_out = [x for x in drawn if not np.isnan(x)], [x for x in left_out if not np.isnan(x)]
    influence = [np.mean(left_out) - x for x in left_out]
    second, third, fourth = (sum(d**k for d in influence) for k in (2, 3, 4))
    deviate = scipy.stats.t.ppf((1 + level) / 2, max(1, second**2 / fourth - 1))
    below = sum(0.5 if abs(x - value) < 1e-12 else float(x < value) for x in drawn) / len(drawn)
    bias = scipy.stats.norm.ppf(min(max(below, 0.5 / len(drawn)), 1 - 0.5 / len(drawn)))
    ends = []
    for sign in (-1, 1):
        moved = bias + sign * deviate
        stretch = 1 - third / (6 * second**1.5) * moved
        ends.append(scipy.stats.norm.cdf(bias + moved / stretch) if stretch > 0 else float(moved > 0))
    return tuple(np.quantile(drawn, ends))


def holds(own, ends):
    """Whether an interval is this one, or reaches further because of people who may be missing."""
    return own.low <= ends[0] + 1e-9 and ends[1] - 1e-9 <= own.high


def all_or_nothing(share, people, level=0.95):
    """Clopper and Pearson's interval of no or all successes among so many people."""
    bound = 1 - scipy.stats.beta.ppf((1 + level) / 2, 1, people)
    return (bound, 1) if share else (0, 1 - bound)


def loops_at(made, draws, threshold_of):
    """For each draw: weighted lists of mated (score, person) and non-mated (score, i, j), and the threshold."""
    left, right = made.non_mated.persons(np.arange(len(made.non_mated.scores)))
    for w in draws:
        mated = [(s, p, w[p]) for s, p in zip(made.mated.scores, made.mated.people, strict=True)]
        others = [(s, i, j, w[i] * w[j]) for s, i, j in zip(made.non_mated.scores, left, right, strict=True)]
        copies = np.array([s for s, _, _, weight in others for _ in range(weight)])
        yield mated, others, threshold_of(copies)


def person_mean(mated, threshold):
    """FNMR by loops, every (drawn) person alike."""
    rates = {}
    for score, person, weight in mated:
        rates.setdefault(person, ([], weight))[0].append(score < threshold)
    total = sum(weight for _, weight in rates.values())
    return sum(np.mean(wrong) * weight for wrong, weight in rates.values()) / total if total else np.nan


def ratio(pairs):
    pairs = list(pairs)
    total = sum(weight for _, weight in pairs)
    return sum(weight for wrong, weight in pairs if wrong) / total if total else np.nan


@pytest.mark.parametrize("threshold", [0.55, -0.9, 2.0])
def test_rates_at_a_threshold_equal_loops(store, threshold):
    made = AllPairs().compare(store)
    found = rates_at_threshold(made.mated, made.non_mated, threshold, people=8, repetitions=40, seed=3)
    rows = {"fmr": [], "fnmr": [], "fnmr_by_person": []}
    weights = [np.ones(8, int), *person_draws(8, 40, 3), *without_each(8)]
    for mated, others, _ in loops_at(made, weights, lambda copies: threshold):
        rows["fmr"].append(ratio((s >= threshold, weight) for s, _, _, weight in others))
        rows["fnmr"].append(ratio((s < threshold, weight) for s, _, weight in mated))
        rows["fnmr_by_person"].append(person_mean(mated, threshold))
    for name, values in rows.items():
        own = getattr(found, name)
        assert own.value == pytest.approx(values[0]), name
        assert own.low < own.high, name
        if 0 < own.value < 1:
            assert holds(own, bca(values, 40)), name
    assert found.false_accepts == (made.non_mated.scores >= threshold).sum()
    assert found.false_rejects == (made.mated.scores < threshold).sum()
    assert (found.fmr.n, found.fnmr.n, found.fnmr_by_person.n) == (found.non_mated, found.mated, 6)


def test_a_rate_without_an_error_has_the_interval_of_its_people():
    people = np.array([0, 0, 0, 1, 2, 2])
    mated = Trials(np.full(6, 0.9), people)
    non_mated = NonMated.from_pairs(np.full(4, 0.1), np.array([0, 0, 1, 2]), np.array([1, 2, 2, 3]))
    found = rates_at_threshold(mated, non_mated, 0.5, people=4, repetitions=50)
    for own, count in ((found.fnmr, 3), (found.fnmr_by_person, 3), (found.fmr, 4)):
        assert (own.value, own.low, own.high) == pytest.approx((0, *all_or_nothing(0, count)))
    found = rates_at_threshold(mated, non_mated, 0.95, people=4, repetitions=50)
    assert (found.fnmr.low, found.fnmr.high) == pytest.approx(all_or_nothing(1, 3))


def test_a_rate_of_one_person_has_no_interval():
    mated = Trials(np.array([0.2, 0.9]), np.array([0, 0]))
    non_mated = NonMated.from_pairs(np.array([0.1, 0.7]), np.array([0, 0]), np.array([1, 1]))
    found = rates_at_threshold(mated, non_mated, 0.5, people=3, repetitions=50)
    for own in (found.fnmr, found.fnmr_by_person, found.fmr):
        assert (own.value, own.low, own.high) == (0.5, None, None)


def test_a_threshold_that_is_none_is_refused(store):
    made = AllPairs().compare(store)
    with pytest.raises(UsageError, match="not a threshold"):
        rates_at_threshold(made.mated, made.non_mated, float("nan"), people=8)


def test_figures_equal_loops(store):
    made = AllPairs().compare(store)
    wanted = VerificationSettings(repetitions=30)
    figures = verification_figures(made, wanted.fmrs_for(182, (0.1, 0.02, 0.0001)), wanted)
    assert [rate.fmr_wanted for rate in figures.by_person] == [0.1, 0.02]  # 0.0001 of 182 pairs is no pair
    for pair, person in zip(figures.by_pair, figures.by_person, strict=True):
        (whole,) = loops_at(
            made, [np.ones(8, int)], lambda copies, fmr=pair.fmr_wanted: thresholds_at_fmr(copies, [fmr])[0]
        )
        assert person.value == pytest.approx(1 - person_mean(whole[0], whole[2])) and person.n == 6
        assert pair.value == pytest.approx(np.mean([s >= whole[2] for s, _, _ in whole[0]]))
    assert figures.failure_to_acquire.value == pytest.approx(1 / 21) and figures.failed_images == 1
    assert figures.accuracy is None and figures.mated_people == 6
    assert "failure to acquire rests on only 1 failure." in reported(figures)[1]


def test_fmrs_of_the_user_and_of_gates_must_resolve(store):
    made = AllPairs().compare(store)
    for wanted in (VerificationSettings(fmrs=[0.001]), VerificationSettings(more_fmrs=[0.001])):
        with pytest.raises(BadInput, match=r"cannot resolve a false match rate of 0\.001"):
            verification_figures(made, wanted.fmrs_for(182, (0.1,)), wanted)
    wanted = VerificationSettings(more_fmrs=[0.05], repetitions=10)
    figures = verification_figures(made, wanted.fmrs_for(182, (0.1,)), wanted)
    assert list(reported(figures, wanted)[0]["tar_at_far"]) == ["0.1", "0.05"]
    assert VerificationSettings().fmrs_for(182, (0.0001,)) == []


def test_rates_that_print_alike_are_refused():
    with pytest.raises(UsageError, match=r"both shown as (0\.01|1 %)"):
        VerificationSettings(fmrs=[0.01], more_fmrs=[0.010000001])
    assert VerificationSettings(more_fmrs=[0.010000001]).fmrs_for(10_000, (0.01, 0.001)) == [0.010000001, 0.001]


def test_failure_to_acquire_keeps_a_width_without_failures(tmp_path):
    figures = verification_figures(
        AllPairs().compare(write_store(tmp_path / "emb")), (0.1,), VerificationSettings(repetitions=50)
    )
    own = figures.failure_to_acquire
    assert (own.value, own.low) == (0, 0) and own.high == pytest.approx(all_or_nothing(0, len(PEOPLE))[1])
    assert not any("acquire" in line for line in reported(figures)[1])


def test_equal_scores_and_no_scores_are_refused(tmp_path):
    def equal(rows, templates):
        templates[:] = [np.ones(6, np.float32)] * len(templates)

    with pytest.raises(BadInput, match="all scores are equal"):
        verification_figures(
            AllPairs().compare(write_store(tmp_path / "equal", change=equal)), (0.1,), VerificationSettings()
        )
    alone = write_store(tmp_path / "alone", {"ann": 2, "bob": 1}, failed=["ann/ann_0002.jpg"])
    with pytest.raises(BadInput, match="none of the 1 mated pairs has a score"):
        verification_figures(AllPairs().compare(alone), (0.5,), VerificationSettings())


def test_an_undefined_equal_error_rate_is_no_number(tmp_path):
    failed = [f"ann/ann_{k:04d}.jpg" for k in (2, 3, 4)]
    made = AllPairs().compare(write_store(tmp_path / "emb", {"ann": 4, "bob": 1, "cyd": 2}, failed=failed))
    figures = verification_figures(made, (0.1,), VerificationSettings(repetitions=10))
    assert figures.eer is None and reported(figures)[0]["eer"] is None


def test_few_errors_are_said():
    scores = np.linspace(0, 1, 4000)
    people = np.arange(40)
    mated = Trials(scores[::-2][:1000] + 0.2, np.repeat(people, 25))
    made = comparisons_of_forty(
        mated, NonMated.from_pairs(scores, people[np.arange(4000) % 40], people[np.arange(1, 4001) % 40])
    )
    _, said = reported(verification_figures(made, (0.1, 0.001), VerificationSettings(repetitions=10)))
    assert any(line.startswith("TAR by pairs (FAR 0.1 %) rests on only 4 false matches") for line in said)
    assert not any("(FAR 10 %)" in line for line in said)


def comparisons_of_forty(mated, non_mated):
    names = [f"p{k}" for k in range(40)]
    return Comparisons(mated, non_mated, names, names, np.zeros(40, bool))


def test_thinned_corners_are_true_corners_with_both_ends():
    generator = np.random.default_rng(0)
    curve = roc(generator.normal(1, 1, 30_000), generator.normal(0, 1, 50_000))
    kept = curve.thinned(2000)
    assert len(curve.fmr) > 2000 >= len(kept) > 500
    assert kept[0] == 0 and kept[-1] == len(curve.fmr) - 1 and (np.diff(kept) > 0).all()


# Groups of people

LABELS = PersonLabels("gender", {"ann": "F", "bob": "M", "cyd": "F", "dan": "M", "eve": "F", "gus": "M", "hal": "M"}, 0)


def test_groups_equal_loops(store):
    made = AllPairs().compare(store)
    fmrs, fmr = (0.2, 0.05), 0.05
    found = differential_rates(made, LABELS, fmrs, repetitions=40, seed=5)
    group = [LABELS.of.get(name) for name in made.people]
    rows = {}
    for mated, others, t in loops_at(
        made,
        [np.ones(8, int), *person_draws(8, 40, 5), *without_each(8)],
        lambda copies: thresholds_at_fmr(copies, [fmr])[0],
    ):
        for name in ("F", "M"):
            own = [trial for trial in mated if group[trial[1]] == name]
            rows.setdefault((name, "fnmr"), []).append(ratio((s < t, weight) for s, _, weight in own))
            rows.setdefault((name, "fnmr_by_person"), []).append(person_mean(own, t))
            inside = [(s >= t, weight) for s, i, j, weight in others if group[i] == group[j] == name]
            rows.setdefault((name, "fmr"), []).append(ratio(inside))
        across = [(s >= t, weight) for s, i, j, weight in others if {group[i], group[j]} == {"F", "M"}]
        rows.setdefault((None, "fmr"), []).append(ratio(across))
    point = found.points[fmrs.index(fmr)]
    groups = {own.group: own for own in [*point.groups, point.across]}
    for (name, rate), values in rows.items():
        own = getattr(groups[name], rate)
        assert own.value == pytest.approx(values[0]), (name, rate)
        assert own.low < own.high, (name, rate)
        if 0 < own.value < 1:
            assert holds(own, bca(values, 40)), (name, rate)
    assert sum(0 < values[0] < 1 for values in rows.values()) > 2
    for own in point.ratios:
        worst, best = (np.array(rows[name, own.rate]) for name in (own.worst, own.best))
        assert worst[0] >= best[0]
        if best[0] > 0:
            assert own.figure.value == pytest.approx(worst[0] / best[0])
    assert (found.people, found.images) == ({"F": 3, "M": 4}, {"F": 9, "M": 10})
    assert found.unlabelled_people == 1
    assert sum(own.non_mated for own in groups.values()) == 9 * 10 + (81 - 29) // 2 + (100 - 36) // 2


def test_a_ratio_has_the_interval_of_its_replicates():
    generator, people, even = np.random.default_rng(1), np.repeat(np.arange(40), 10), np.arange(40) % 2 == 0
    mated = Trials(generator.normal(1.5 + even[people], 1), people)
    pairs = np.array([(i, j) for i in range(40) for j in range(i)])
    made = comparisons_of_forty(mated, NonMated.from_pairs(generator.normal(size=len(pairs)), *pairs.T))
    labels = PersonLabels("parity", {name: "even" if k % 2 == 0 else "odd" for k, name in enumerate(made.people)}, 0)
    found = differential_rates(made, labels, [0.05], repetitions=30, seed=4)
    weights = [np.ones(40, int), *person_draws(40, 30, 4), *without_each(40)]
    values = []
    for trials, _, t in loops_at(made, weights, lambda copies: thresholds_at_fmr(copies, [0.05])[0]):
        odd, others = (ratio((s < t, w) for s, p, w in trials if even[p] == side) for side in (False, True))
        values.append(odd / others)
    own = next(own for own in found.points[0].ratios if own.rate == "fnmr")
    assert (own.worst, own.best, own.figure.value) == ("odd", "even", pytest.approx(values[0]))
    assert (own.figure.low, own.figure.high) == pytest.approx(bca(values, 30))


def test_a_ratio_to_no_error_is_no_number(tmp_path):
    names = ("ann", "bob", "cyd", "eve", "hal")

    def apart(rows, templates):  # everybody has an axis of their own; the men's odd images lean to a sixth
        axes = np.eye(6, dtype=np.float32)
        for k, row in enumerate(rows):
            lean = 2 * (k % 2) * (LABELS.of[row["identity"]] == "M")
            templates[k] = axes[names.index(row["identity"])] + lean * axes[5]

    made = AllPairs().compare(write_store(tmp_path / "emb", {name: PEOPLE[name] for name in names}, change=apart))
    point = differential_rates(made, LABELS, [0.01], repetitions=20).points[0]
    own = next(r for r in point.ratios if r.rate == "fnmr")
    assert (own.worst, own.best) == ("M", "F") and np.isnan(own.figure.value) and own.figure.low is None


def test_labels_are_read_by_identity_or_path(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(
        "path,identity,gender\nann/ann_0001.jpg,ann,F\nann/ann_0002.jpg,ann,F\nx/bob_1.jpg,bob,M\nc/c.jpg,cyd,\n"
    )
    assert read_person_labels(path, "gender") == PersonLabels("gender", {"ann": "F", "bob": "M"}, 1)
    path.write_text("path,age\nann/ann_0001.jpg,old\nbob/bob_0001.jpg,young\n")
    assert read_person_labels(path, "age").of == {"ann": "old", "bob": "young"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("identity,age\nann,1\n", "no column 'gender'; there are identity, age"),
        ("who,gender\nann,F\n", "no column 'identity' or 'path'"),
        ("identity,gender\nann,F\nann,M\n", "line 3: ann has two labels, 'F' and 'M'"),
        ("path,gender\nann.jpg,F\n", "line 2: neither an identity nor a path"),
        ("", "empty"),
        (b"\xff\xfe\x00", "not a UTF-8 text file"),
        (None, "no such file"),
    ],
)
def test_label_files_that_do_not_say_are_refused(tmp_path, text, says):
    path = tmp_path / "labels.csv"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadInput, match=r"labels\.csv") as error:
        read_person_labels(path, "gender")
    assert says in str(error.value)


def test_one_group_is_refused(store):
    with pytest.raises(BadInput, match="only 'F' among the people compared"):
        differential_rates(AllPairs().compare(store), PersonLabels("gender", {"ann": "F", "zoe": "M"}, 0), [0.1])


# The command


def test_the_names_of_gates_are_those_of_the_figures(store):
    for wanted in (
        VerificationSettings(fmrs=[0.1, 0.05]),
        VerificationSettings(fmrs=[0.1], more_fmrs=[0.2], threshold=0.5, labels=LABELS),
    ):
        quick = dataclasses.replace(wanted, repetitions=20)
        report = evaluate_trials({"tiny": store}, AllPairs(), quick).report()
        schema = trials_schema(["tiny"], wanted, "all-pairs", folds=False)
        assert set(report.gates) == set(schema.gate_names())
        assert "accuracy" not in report.gates and "eer[tiny]" in report.gates


def test_a_gate_on_a_figure_that_does_not_come_is_missed(here):
    failed = [f"ann/ann_{k:04d}.jpg" for k in (2, 3, 4)]
    write_store(here / "poor", {"ann": 4, "bob": 1, "cyd": 2}, failed=failed)
    done = call("poor", "--far", 0.5, "--fail-if", "eer > 0.9", "-o", "report", "--json", *FAST)
    assert done.exit_code == 5 and Path("report/report.json").exists(), done.stderr
    assert json.loads(done.stdout)["metrics"]["gates"][0]["value"] is None


def test_pairs_that_resolve_no_rate_still_make_a_report(here):
    done = call(
        *("emb", "--pairs", "pairs.txt", "--labels", "labels.csv", "--label", "gender"),
        *("--fail-if", "eer > 1", "-o", "report", *FAST),
    )
    assert done.exit_code == 0, done.stderr
    report = json.loads(Path("report/report.json").read_text())
    assert report["metrics"]["tar_at_far"] == {} and "differential" not in report["metrics"]
    assert any(line.startswith("no rates by gender") for line in report["warnings"])
    assert report["provenance"]["files"]["pairs"] == {"file": "pairs.txt", "sha256": sha256_file(Path("pairs.txt"))}
    assert report["provenance"]["settings"]["ignore_missing"] is False


def test_recognizers_that_failed_on_different_images_have_the_same_rates(here):
    lost = [f"hal/hal_{k:04d}.jpg" for k in (2, 3, 4, 5)]
    stores = {"all": Store.open("emb"), "poor": write_store(here / "poor", name="poor", failed=lost)}
    source = AllPairs()
    source.fmrs = (0.1, 0.006)  # of the 164 and of the 111 non-mated pairs
    result = evaluate_trials(stores, source, VerificationSettings(ignore_failures=True, repetitions=20))
    own = result.as_json()["recognizers"].values()
    assert [each["counts"]["non_mated"] * 0.006 > 1 for each in own] == [True, False]
    assert [list(each["tar_at_far"]) for each in own] == [["0.1"], ["0.1"]]


def test_names_that_make_one_name_of_a_file_are_numbered(here):
    assert slugs(["A b", "a-b", "a.b-2", "a b"]) == {"A b": "a-b", "a-b": "a-b-2", "a.b-2": "a-b-2-2", "a b": "a-b-3"}
    done = call("A b=emb", "a-b=other", "--far", 0.1, "-o", "report", *FAST)
    assert done.exit_code == 0 and Path("report/figures/scores-a-b-2.svg").exists(), done.stderr


def test_labels_may_be_words_of_the_report(here):
    words = {"F": "FMR", "M": "value"}
    Path("labels.csv").write_text("identity,FMR\n" + "".join(f"{k},{words[v]}\n" for k, v in LABELS.of.items()))
    done = call("emb", "--far", 0.1, "--labels", "labels.csv", "--label", "FMR", "-o", "report", *FAST)
    assert done.exit_code == 0, done.stderr
    report = json.loads(Path("report/report.json").read_text())
    jsonschema.validate(report, json.loads(Path("report/report.schema.json").read_text()))


def test_the_store_of_probes_is_recorded(here):
    probes = write_store(here / "probes", seed=1, root="/elsewhere")
    report = evaluate_trials(
        {"tiny": Store.open("emb")}, AllPairs(probes=probes), VerificationSettings(fmrs=[0.1], repetitions=9)
    )
    assert [(s["store"], s.get("role")) for s in report.provenance["stores"]] == [("emb", None), ("probes", "probes")]


def turn_map(folder, transform="rotate30"):
    """Writes `turn.safetensors`, a map of the templates of `tiny`."""
    generator = np.random.default_rng(8)
    weight, bias = (generator.normal(size=shape).astype(np.float32) for shape in ((6, 6), 6))
    mapping = Mapping(weight, bias, transform, recognizer=RecognizerId("tiny", hashlib.sha256(b"tiny").hexdigest()))
    mapping.save(folder / "turn.safetensors")
    return mapping


@pytest.mark.parametrize("side", ["left", "right", "both", None])
def test_a_map_is_applied_before_comparison(here, pairs, side):
    mapping = turn_map(here)
    probes = write_store(here / "turned", seed=1, transform="rotate30")
    given = [] if side is None else ["--mapping-side", side]
    done = call(
        *("emb", "--pairs", "pairs.txt", "--probes", "turned", "--mapping", "turn.safetensors", *given),
        *("--far", 0.5, "-o", "report", "--json", *FAST),
    )
    assert done.exit_code == 0, done.stderr
    own, others = (dict(zip(one.paths(), one.templates(), strict=True)) for one in (Store.open("emb"), probes))
    scores = []
    for a, b in zip(pairs.left, pairs.right, strict=True):
        one, other = own[a][None], others[b][None]
        one = mapping.apply(one) if side in ("left", "both") else one
        other = mapping.apply(other) if side != "left" else other
        scores.append(score_pairs(one, other, "cosine")[0])
    point = tar_at_fmr(np.array(scores)[pairs.mated], np.array(scores)[~pairs.mated], 0.5)
    found = json.loads(done.stdout)["metrics"]["tar_at_far"]["0.5"]
    assert found["threshold"] == pytest.approx(point.threshold, abs=1e-6) and found["value"] == point.tar
    report = json.loads(Path("report/report.json").read_text())
    stores = {store["store"]: store for store in report["provenance"]["stores"]}
    recorded = {"undoes": "rotate30", "sha256": sha256_file(here / "turn.safetensors")}
    assert stores["emb"].get("mapping") == (recorded if side in ("left", "both") else None)
    assert stores["turned"].get("mapping") == (None if side == "left" else recorded)
    said = [line for line in report["warnings"] if "mapped by a map" in line]
    expected = {
        "emb": "tiny: of images as they were, mapped by a map that undoes rotate30, which is not what was done to them",
        "turned": "probes: of images with the transform rotate30, mapped by a map that undoes rotate30",
    }
    assert said == [expected[name] for name in ("emb", "turned") if stores[name].get("mapping")]
    assert any("fit it on others than those compared" in paragraph for paragraph in report["protocol"])


@pytest.mark.filterwarnings("ignore:.*pictures that are not all recorded")
@pytest.mark.filterwarnings("ignore:.*templates of faces as they were, and turn")
def test_templates_changed_by_what_was_fitted_on_people_compared_are_refused(here, pairs):
    mapping = turn_map(here)
    options = ("--pairs", "pairs.txt", "--far", 0.5, "--json", *FAST)
    for people, code in ((["ann", "zoe"], 4), (["zoe"], 0), (None, 0)):
        mapping.report["provenance"] = {"parts": [{"people": people}]}
        mapping.save(here / "turn.safetensors")
        run("transform", "emb", "-o", "mapped", "--mapping", "turn.safetensors", "--overwrite")
        assert Store.open(here / "mapped").manifest.fitted_on == tuple(people or ())
        # What is made of mapped templates is still of those people.
        run("aggregate", "mapped", "-o", "two", "--overwrite")
        assert Store.open(here / "two").manifest.fitted_on == tuple(people or ())
        for given in (("emb", "--mapping", "turn.safetensors"), ("mapped",)):
            done = call(*given, *options)
            assert done.exit_code == code, done.stderr
            if code:
                said = f"{given[0]}: the mapping of these templates was fitted on 1 of the"
                assert said in done.stderr and "(ann)" in done.stderr


def test_a_map_for_one_store_on_either_side(here, pairs):
    mapping, own = turn_map(here), dict(zip(Store.open("emb").paths(), Store.open("emb").templates(), strict=True))
    thresholds = {}
    for side in ("left", "right", "both"):
        done = call(
            *("emb", "--pairs", "pairs.txt", "--mapping", "turn.safetensors", "--mapping-side", side),
            *("--far", 0.5, "--ignore-failures", "--json", *FAST),
        )
        assert done.exit_code == 0, done.stderr
        thresholds[side] = json.loads(done.stdout)["metrics"]["tar_at_far"]["0.5"]["threshold"]
    for side, found in thresholds.items():
        scores = []
        for a, b in np.array([pairs.left, pairs.right]).T[~pairs.mated]:
            if a in own and b in own:
                one, other = own[a][None], own[b][None]
                one = one if side == "right" else mapping.apply(one)
                other = other if side == "left" else mapping.apply(other)
                scores.append(score_pairs(one, other, "cosine")[0])
        assert found == pytest.approx(thresholds_at_fmr(np.array(scores), [0.5])[0], abs=1e-6)
    done = call("emb", "--mapping", "turn.safetensors", "--far", 0.1, "--json", *FAST)
    whole = AllPairs().compare(MappedStore(Store.open("emb"), load_mapping("turn.safetensors")))
    assert json.loads(done.stdout)["metrics"]["tar_at_far"]["0.1"]["threshold"] == pytest.approx(
        thresholds_at_fmr(whole.non_mated.scores, [0.1])[0]
    )
    mapped = [mapping.apply(own[path][None]) for path in ("ann/ann_0001.jpg", "bob/bob_0001.jpg")]
    assert np.isclose(whole.non_mated.scores, score_pairs(*mapped, "cosine")[0], atol=1e-6).any()


def run(*arguments):
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 0, done.output


def call(*arguments):
    return CliRunner().invoke(app, ["evaluate", "verification", *map(str, arguments)])


@pytest.fixture
def here(tmp_path, monkeypatch, store):
    (tmp_path / "pairs.txt").write_text(PAIRS)
    (tmp_path / "labels.csv").write_text("identity,gender\n" + "".join(f"{k},{v}\n" for k, v in LABELS.of.items()))
    write_store(tmp_path / "other", name="other", failed=["hal/hal_0005.jpg"], seed=4)
    monkeypatch.chdir(tmp_path)
    return tmp_path


FAST = ("--repetitions", 100)


def test_one_store_on_all_pairs(here):
    done = call(
        *("emb", "--far", 0.1, "--threshold", 0.5, "--labels", "labels.csv", "--label", "gender"),
        *("--fail-if", "tar@far=0.05 < 0", "--fail-if", "fmr[tiny] > 1", "--fail-if", "low(fnmr@fmr=1e-1) > 1"),
        *("-o", "report", "--json", *FAST),
    )
    assert done.exit_code == 0, done.stderr
    metrics = json.loads(done.stdout)["metrics"]
    assert list(metrics["tar_at_far"]) == list(metrics["tar_at_far_by_person"]) == ["0.05", "0.1"]
    assert {"value", "low", "high", "n", "threshold"} <= metrics["tar_at_far"]["0.1"].keys()
    assert metrics["failure_to_acquire"]["n"] == 21 and metrics["at_threshold"]["threshold"] == 0.5
    assert metrics["counts"]["mated"] + metrics["counts"]["non_mated"] == 21 * 20 // 2
    groups = metrics["differential"]["at_fmr"]["0.1"]["groups"]
    assert [own["group"] for own in groups] == ["F", "M"] and groups[0]["mated"] == 6 + 1 + 3
    report = json.loads(Path("report/report.json").read_text())
    assert report["metrics"] == {key: value for key, value in metrics.items() if key != "gates"}
    assert report["provenance"]["settings"]["seed"] == 0 and report["provenance"]["stores"][0]["recognizer"] == "tiny"
    assert report["provenance"]["files"]["labels"]["sha256"] == sha256_file(Path("labels.csv"))
    jsonschema.validate(report, json.loads(Path("report/report.schema.json").read_text()))
    assert any("few-errors.csv lists them" in line for line in report["warnings"])
    few = Path("report/few-errors.csv").read_text()
    assert "FMR (FAR 10 %, F)" in few
    lost = Path("report/left-out-images.csv").read_text().splitlines()
    assert lost[1:] == ["tiny,hal/hal_0005.jpg,hal,detect: no face found"]
    assert Path("report/report.html").exists() and Path("report/figures/roc.svg").exists()
    again = call("emb", "-o", "report")
    assert again.exit_code == 4 and "--overwrite" in again.stderr


def test_stores_side_by_side_on_pairs(here):
    done = call("a=emb", "b & c=other", "--pairs", "pairs.txt", "--far", 0.5, "-o", "report", "--json", *FAST)
    assert done.exit_code == 0, done.stderr
    metrics = json.loads(done.stdout)["metrics"]["recognizers"]
    assert list(metrics) == ["a", "b & c"] and metrics["a"]["accuracy"]["standard_error"] >= 0
    page = Path("report/report.html").read_text()
    assert "b &amp; c" in page and "b & c" not in page


def test_a_missed_gate_is_exit_code_5(here):
    done = call("emb", "--far", 0.1, "--fail-if", "eer >= 0", "--json", *FAST)
    assert done.exit_code == 5 and json.loads(done.stdout)["metrics"]["gates"][0]["passed"] is False


def test_the_same_work_gives_the_same_report(here):
    for folder in ("one", "two"):
        report = evaluate_trials(
            {"tiny": Store.open("emb")}, AllPairs(), VerificationSettings(fmrs=[0.1], repetitions=20)
        )
        (here / folder).mkdir()
        for section in report.sections:
            for picture in section.pictures:
                (here / folder / picture.name).write_bytes(picture.data)
        (here / folder / "metrics").write_text(json.dumps(report.as_json(), allow_nan=False))
    for path in (here / "one").iterdir():
        assert path.read_bytes() == (here / "two" / path.name).read_bytes(), path.name


ERRORS = {
    "far too fine": (["emb", "--far", 0.0001], 4, "cannot resolve"),
    "far of a gate": (["emb", "--fail-if", "tar@far=1e-6 < 1"], 4, "cannot resolve"),
    "far of one": (["emb", "--far", 1], 2, "not between 0 and 1"),
    "gate": (["emb", "--fail-if", "psnr < 1"], 2, "no figure 'psnr'"),
    "gate without its figure": (["emb", "--fail-if", "fmr > 1"], 2, "no figure 'fmr' here"),
    "gate on one of two": (["emb", "other", "--fail-if", "eer > 1"], 2, "no figure 'eer' here; there are eer[other]"),
    "labels alone": (["emb", "--labels", "labels.csv"], 2, "--labels and --label go together"),
    "column": (["emb", "--labels", "labels.csv", "--label", "age"], 4, "no column 'age'"),
    "two of a name": (["emb", "emb"], 2, "two stores of tiny"),
    "pairs and people": (["emb", "--pairs", "pairs.txt", "--people", "people.txt"], 2, "names its images itself"),
    "probes of another for pairs": (
        ["emb", "--pairs", "pairs.txt", "--probes", "other"],
        4,
        "probes other is for other",
    ),
    "probes lacking images": (
        ["emb", "--pairs", "pairs.txt", "--probes", "few"],
        4,
        "8 images that the pairs name are",
    ),
    "map of another": (["other", "--mapping", "turn.safetensors"], 4, "this mapping is for tiny"),
    "map for two": (["emb", "other", "--mapping", "turn.safetensors"], 2, "give one STORE"),
    "no map": (["emb", "--mapping", "gone.safetensors"], 4, "gone.safetensors: no such mapping"),
    "mapped twice": (["twice", "--mapping", "turn.safetensors"], 4, "templates that were mapped"),
    "side without a map": (["emb", "--mapping-side", "both"], 2, "--mapping-side says what --mapping maps"),
    "unknown side": (["emb", "--mapping", "turn.safetensors", "--mapping-side", "up"], 2, "use left, right or both"),
    "no sides": (["emb", "--mapping", "turn.safetensors", "--mapping-side", "right"], 2, "have no sides; use both"),
    "missing without pairs": (["emb", "--ignore-missing"], 2, "give --pairs"),
    "probes and two": (["emb", "other", "--probes", "emb"], 2, "give one STORE"),
    "probes of another": (["emb", "--probes", "other"], 4, "the store of probes other is for other"),
    "no such people": (["emb", "--people", "people.txt"], 4, "people.txt"),
    "threshold for two": (["emb", "other", "--threshold", 0.5], 2, "different scales"),
    "threshold": (["emb", "--threshold", "nan", *FAST], 2, "--threshold nan: give a finite number"),
    "a distance as threshold": (["emb", "--threshold", 1.2, *FAST], 2, "this distance is the cosine 0.28"),
    "no end of a threshold": (["emb", "--threshold", "inf", *FAST], 2, "--threshold inf: give a finite number"),
    "name": (["a[b]=emb"], 2, "the name 'a[b]' has spaces"),
    "other images": (["emb", "png"], 4, "images are in only one of emb and this store"),
    "other pictures": (["emb", "moved"], 4, "is another picture than in emb"),
    "missing images": (["few", "--pairs", "pairs.txt"], 4, "not in the store (cyd/cyd_0001.jpg"),
    "no store": (["gone"], 4, "gone: no such folder"),
}


def test_a_negative_seed_is_refused(here):
    done = call("emb", "--seed", -1)
    assert done.exit_code == 2 and "--seed" in done.stderr


def test_every_error_is_one_line_and_writes_nothing(here):
    write_store(here / "png", name="png", ending="png")
    write_store(here / "moved", name="moved", failed=["hal/hal_0005.jpg"], root="/moved")
    write_store(here / "few", {"ann": 4, "bob": 3})
    write_store(here / "twice", mapping={"undoes": "rotate30"})
    turn_map(here)
    (here / "people.txt").write_text("1\nzoe 3\n")
    for name, (arguments, code, says) in ERRORS.items():
        done = call(*arguments, "-o", "report", "--json")
        told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert done.exit_code == code, (name, done.stderr, done.stdout)
        assert len(told) == 1 and says in told[0], (name, done.stderr)
        assert not (here / "report").exists(), name
