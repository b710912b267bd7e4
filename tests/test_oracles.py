"""The package's figures against `oracles/`, which knows their definitions and NumPy only, on small made-up inputs."""

from __future__ import annotations

import ast
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_people, register_tiny, save_tiny
from oracles import intervals, pictures, rates, templates
from oracles.drawn import portraits_of
from oracles.headlines import read_people
from oracles.stores import Images, read_pairs, read_store
from typer.testing import CliRunner

import facedecode
from facedecode.attributes.probe import fit_linear, out_of_fold
from facedecode.attributes.reading import value_of
from facedecode.attributes.target import Target
from facedecode.cli import app
from facedecode.decoders import load_decoder
from facedecode.identity import RecognizerId
from facedecode.pictures.metrics import psnr, ssim
from facedecode.recognizers import load_recognizer
from facedecode.recognizers.recognizer import embed_pictures
from facedecode.statistics.security import identification_ranks
from facedecode.statistics.unlinkability import linkability
from facedecode.statistics.verification import at_threshold, eer, person_weights, thresholds_at_fmr
from facedecode.store import StoreWriter
from facedecode.templates.cluster_description import agreement

FMRS = (0.2, 0.05)


def test_nothing_there_shares_code_with_the_package() -> None:
    allowed = sys.stdlib_module_names | {"numpy", "pyarrow", "PIL", "oracles"}  # rows of stores, and pictures' files
    found = set()
    for path in (Path(__file__).parent / "oracles").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, path
                found.add(node.module.partition(".")[0])
    assert found >= {"numpy", "oracles"} and found <= allowed


def run(*words: object) -> str:
    """Standard output of a command, in this process."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.stdout


def evaluated(what: str, folder: Path, *words: object) -> dict:
    """The metrics of a report."""
    run("evaluate", what, *words, "--repetitions", 100, "-o", folder, "--quiet")
    return json.loads((folder / "report.json").read_text())["metrics"]


# Images of each person, and which of all images gave no template.
PEOPLE = {
    "as in photographs": ([1, 1, 1, 1, 2, 2, 3, 5, 8], {3, 9}),
    "one image each, but for one": ([1] * 11 + [2], set()),
    "one person has half of the images": ([1, 1, 2, 2, 3, 9], {12}),
    "one person has no template at all": ([2, 2, 2, 2, 2], {0, 1}),
    "two people": ([6, 5], {10}),
}


def made_up(folder: Path, counts: list[int], failed: set[int], score: str, ties: bool, seed: int) -> Path:
    """A store of random templates; with ties, of few whole numbers, so that many scores are equal."""
    rng = np.random.default_rng(seed)
    values, rows, failures = [], [], []
    for person, count in enumerate(counts):
        center = rng.normal(size=6)
        for number in range(1, count + 1):
            path = f"P{person}/P{person}_{number:04d}.jpg"
            place = len(rows) + len(failures)
            template = 1.5 * center + rng.normal(size=6)
            if place in failed:
                failures.append({"path": path, "stage": "detect", "reason": "no face found"})
                continue
            values.append(np.sign(template) if ties else template)
            rows.append({"path": path, "identity": f"P{person}", "sha256": path})
    recognizer = RecognizerId("made-up", "0" * 64, dim=6, score=score)
    manifest = {"score": score, "transform": None, "precision": "fp32", "l2_normalized": False}
    with StoreWriter(folder, {"seed": seed}, folder.parent, recognizer, manifest=manifest) as writer:
        writer.append(np.array(values, np.float32), rows, failures, len(rows) + len(failures))
        writer.finish()
    return folder


def check_rates(report: dict, scores: np.ndarray, whose: list, refused: dict, names: tuple[str, str]) -> None:
    for fmr, score in refused.items():
        by_pair, by_person = (report[name][str(fmr)] for name in names)
        assert by_pair["value"] == pytest.approx((scores > score).mean(), abs=1e-9)
        assert by_person["value"] == pytest.approx(rates.mean_by_person(scores > score, whose), abs=1e-9)
        assert by_person["n"] == len(set(whose))


@pytest.mark.filterwarnings("ignore::facedecode.errors.FacedecodeWarning")
@pytest.mark.parametrize("score", ["cosine", "negative-euclidean"])
@pytest.mark.parametrize("people", PEOPLE)
def test_verification_of_all_pairs(people: str, score: str, tmp_path: Path) -> None:
    counts, failed = PEOPLE[people]
    ties = score == "negative-euclidean"
    images = read_store(made_up(tmp_path / "emb", counts, failed, score, ties, seed=len(people)))
    mated, non_mated, whose = rates.all_pairs(images.templates, images.people, score)
    refused = {fmr: rates.highest_refused(non_mated, fmr) for fmr in FMRS if fmr * len(non_mated) >= 1}
    assert refused
    far = [word for fmr in refused for word in ("--far", fmr)]
    report = evaluated("verification", tmp_path / "report", tmp_path / "emb", *far)
    assert report["counts"]["mated"] == len(mated) and report["counts"]["non_mated"] == len(non_mated)
    assert report["failure_to_acquire"]["value"] == pytest.approx(images.failed().mean())
    assert report["eer"]["value"] == pytest.approx(rates.equal_error_rate(mated, non_mated), abs=1e-9)
    check_rates(report, mated, whose, refused, ("tar_at_far", "tar_at_far_by_person"))
    for fmr, below in refused.items():
        assert report["tar_at_far"][str(fmr)]["false_accepts"] == (non_mated > below + 1e-6).sum()
        assert report["tar_at_far"][str(fmr)]["threshold"] == pytest.approx(max(below, -1e9), abs=1e-5)


@pytest.mark.parametrize("seed", range(60))
def test_random_scores(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mated, non_mated = rng.normal(rng.uniform(0, 3), 1, rng.integers(2, 60)), rng.normal(0, 1, rng.integers(20, 200))
    if seed % 3:  # coarse scores are often equal, at the threshold too; images without a template
        mated, non_mated = mated.round(seed % 3 - 1), non_mated.round(seed % 3 - 1)
        mated[rng.random(len(mated)) < 0.1] = -np.inf
    assert eer(mated, non_mated).value == pytest.approx(rates.equal_error_rate(mated, non_mated), abs=1e-12)
    whose = rng.integers(0, 6, len(mated)).tolist()
    for fmr in (0.5, 0.29, 0.1, 0.05):
        refused = rates.highest_refused(non_mated, fmr)
        (threshold,) = thresholds_at_fmr(non_mated, [fmr])
        assert ((mated >= threshold) == (mated > refused)).all() and (non_mated > refused).mean() <= fmr
        found = at_threshold(mated, non_mated, threshold, person_weights(np.array(whose))).tar
        assert found == pytest.approx(rates.mean_by_person(mated > refused, whose))


@pytest.mark.parametrize("kind", ["cosine", "negative-euclidean"])
def test_ranks_of_equal_scores(kind: str) -> None:
    rng = np.random.default_rng(3)
    gallery = rng.choice([-1.0, 1.0], (30, 4)).astype(np.float32)  # of 16 kinds: most have an equal
    probes = rng.choice([-1.0, 1.0], (60, 4)).astype(np.float32)
    missing, names = rng.random(60) < 0.1, [f"P{k}" for k in range(30)]
    whose = [f"P{k}" for k in rng.integers(0, 33, 60)]  # three of them were never enrolled
    found = identification_ranks(gallery, names, probes, whose, kind, missing)
    mine = rates.ranks(np.where(missing[:, None], np.nan, probes), whose, gallery, names, kind)
    assert found.tolist() == [rank if np.isfinite(rank) else 31 for rank in mine]


def folds_of_pairs(folder: Path, ties: bool, seed: int) -> tuple[Path, Path]:
    """A store, and View 2 in small: 4 folds of 6 mated and 6 non-mated pairs of people of their own."""
    store = made_up(folder / "emb", [3] * 24, {5, 40}, "cosine", ties, seed)
    lines, rng = ["4\t6"], np.random.default_rng(seed)
    for fold in range(4):
        own = range(6 * fold, 6 * fold + 6)
        lines += [f"P{k}\t1\t{rng.integers(2, 4)}" for k in own]
        lines += [f"P{k}\t{rng.integers(1, 4)}\tP{own[k % 6 - 1]}\t{rng.integers(1, 4)}" for k in own]
    (folder / "pairs.txt").write_text("\n".join(lines) + "\n")
    return store, folder / "pairs.txt"


@pytest.mark.filterwarnings("ignore::facedecode.errors.FacedecodeWarning")
@pytest.mark.parametrize("ties", [False, True])
def test_accuracy_over_folds(ties: bool, tmp_path: Path) -> None:
    store, file = folds_of_pairs(tmp_path, ties, seed=5)
    report = evaluated("verification", tmp_path / "report", store, "--pairs", file, "--far", 0.1)
    images, pairs = read_store(store), read_pairs(file)
    row = {path: k for k, path in enumerate(images.paths)}
    scores = np.array(
        [rates.scores_of(images.templates[row[a]], images.templates[[row[b]]], "cosine")[0] for a, b, _ in pairs]
    )
    whose = [images.people[row[a]] for a, _, _ in pairs]
    mated = np.array([one == images.people[row[b]] for one, (_, b, _) in zip(whose, pairs, strict=True)])
    folds = rates.accuracies_of_folds(scores.round(6), mated, np.array([fold for *_, fold in pairs]))
    lowest, highest = np.mean(folds, axis=0)
    assert lowest - 1e-9 <= report["accuracy"]["value"] <= highest + 1e-9
    if lowest == highest:
        error = rates.standard_error([low for low, _ in folds])
        assert report["accuracy"]["standard_error"] == pytest.approx(error)
    used = sorted({row[path] for a, b, _ in pairs for path in (a, b)})
    assert report["failure_to_acquire"]["value"] == pytest.approx(images.failed()[used].mean())
    of_mated = [name for name, same in zip(whose, mated, strict=True) if same]
    refused = {0.1: rates.highest_refused(scores[~mated], 0.1) + 1e-6}
    check_rates(report, scores[mated], of_mated, refused, ("tar_at_far", "tar_at_far_by_person"))


def test_an_interval_by_person_is_where_a_plain_bootstrap_has_it(tmp_path: Path) -> None:
    store = made_up(tmp_path / "emb", [2, 3, 4, 5] * 12, set(), "cosine", False, seed=8)
    threshold = 0.5
    run("evaluate", "verification", store, "--far", 0.05, "--threshold", threshold, "-o", tmp_path / "r", "--quiet")
    report = json.loads((tmp_path / "r" / "report.json").read_text())["metrics"]
    images = read_store(store)
    mated, _, whose = rates.all_pairs(images.templates, images.people, "cosine")
    found = report["at_threshold"]["fnmr_by_person"]
    refused = (mated < threshold).astype(float)
    assert found["value"] == pytest.approx(rates.mean_by_person(refused, whose))
    low, high = intervals.bootstrap_by_person(refused, whose)
    # A tenth of the width for chance in 1,000 replicates, and for what corrections of small samples move.
    assert abs(found["low"] - low) < 0.1 * (high - low) and abs(found["high"] - high) < 0.1 * (high - low)


class Lab:
    """Twenty drawn people, two recognizers, and decoders of twelve of them, in the working directory."""

    def __init__(self, folder: Path) -> None:
        save_tiny(folder / "tiny.safetensors")
        for name, recognizer in (("emb", "tiny"), ("emb2", "tiny-cosine")):
            draw_people(folder / name, folder / "faces", recognizer, folder / "tiny.safetensors", people=20, each=4)
        (folder / "judged.txt").write_text("".join(f"P{k}\n" for k in range(8)))
        (folder / "training.txt").write_text("".join(f"P{k}\n" for k in range(8, 20)))
        for kind, people in (("ridge", "training"), ("mean-face", "training"), ("nearest", "training")):
            how = ("--architecture", kind, "--image-size", 64, "--people", folder / f"{people}.txt")
            run("train", folder / "emb", "-o", folder / kind, *how, "--quiet")
        run("train", folder / "emb", "-o", folder / "originals", *how[:4], "--people", folder / "judged.txt", "--quiet")
        self.folder, self.weights = folder, folder / "tiny.safetensors"
        names = {f"P{k}" for k in range(8)}
        self.judges = {
            name: read_store(folder / store).of(names) for name, store in (("tiny", "emb"), ("tiny-cosine", "emb2"))
        }
        self.options = (
            *(word for name in self.judges for word in ("--weights", f"{name}={self.weights}")),
            *(word for kind in ("ridge", "mean-face", "nearest") for word in ("--decoder", f"{kind}={folder / kind}")),
            *("--people", folder / "judged.txt", "--quiet"),
        )

    def own_pictures(self) -> dict[str, np.ndarray]:
        """By NumPy from the training portraits, in the order of the judged images."""
        known, portraits = portraits_of(self.folder / "nearest")
        own = self.judges["tiny"].templates
        mean = pictures.rounded(np.mean(portraits / 255.0, axis=0))
        nearest = [int(rates.scores_of(one, known, "negative-euclidean").argmax()) for one in own]
        return {
            "ridge": pictures.drawn(*pictures.ridge(known, portraits, 0.01), own, 64),
            "mean-face": np.stack([mean] * len(own)),
            "nearest": portraits[nearest],
        }


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("oracles")
        register_tiny(patch)
        patch.chdir(folder)
        yield Lab(folder)


@pytest.fixture(scope="module")
def drawn(lab: Lab) -> dict[str, np.ndarray]:
    return lab.own_pictures()


def test_closed_forms_draw_what_numpy_draws(lab: Lab, drawn: dict[str, np.ndarray]) -> None:
    own = lab.judges["tiny"].templates.astype(np.float32)
    for kind, faces in drawn.items():
        apart = np.abs(load_decoder(lab.folder / kind).decode(own).astype(int) - faces.astype(int))
        # The mean of 48 levels is often halfway between two, and float32 may round to the other one.
        assert apart.max() <= 1 and (apart > 0).mean() < (0.03 if kind == "mean-face" else 1e-3)


def test_success_of_attackers(lab: Lab, drawn: dict[str, np.ndarray]) -> None:
    fmrs = [word for fmr in FMRS for word in ("--fmr", fmr)]
    report = evaluated("security", lab.folder / "security", "emb", "emb2", *lab.options, *fmrs)
    for judge, images in lab.judges.items():
        mated, non_mated, whose = rates.all_pairs(images.templates, images.people, images.score)
        refused = {fmr: rates.highest_refused(non_mated, fmr) for fmr in FMRS}
        check_rates(report["recognizers"][judge]["tar"], mated, whose, refused, ("pairs", "people"))
        gallery = rates.enrolled(images.paths, images.people, images.failed())
        first = list(gallery.values())
        second = [row for row in range(len(images.people)) if row not in first]
        recognizer = load_recognizer(judge, lab.weights)
        for kind, faces in drawn.items():
            seen = embed_pictures(recognizer, faces).astype(np.float64)
            attacks = report["attacks"][kind][judge]
            one = rates.type_one(seen, images.templates, images.score)
            check_rates(attacks["type_one"], one, images.people, refused, ("pairs", "people"))
            two, of_two = rates.type_two(seen, images.templates, images.people, images.score)
            check_rates(attacks["type_two"], two, of_two, refused, ("pairs", "people"))
            identified = report["identification"][judge]["rates"][kind]
            for probes, name in ((second, "other_image"), (first, "same_image")):
                names = [images.people[row] for row in probes]
                found = rates.ranks(seen[probes], names, images.templates[first], list(gallery), images.score)
                for rank in (1, 5):
                    right = np.array(found) <= rank
                    here = identified[name]
                    assert here["pairs"][f"rank{rank}"]["value"] == pytest.approx(right.mean())
                    assert here["people"][f"rank{rank}"]["value"] == pytest.approx(rates.mean_by_person(right, names))


def test_fidelity(lab: Lab, drawn: dict[str, np.ndarray]) -> None:
    report = evaluated("reconstruction", lab.folder / "pictures", "emb", "--against", "emb2", *lab.options)["decoders"]
    images = lab.judges["tiny"]
    of_portraits, portraits = portraits_of(lab.folder / "originals")
    place = [int(np.abs(of_portraits - one).sum(1).argmin()) for one in images.templates]
    originals = portraits[place]
    for kind, faces in drawn.items():
        both = list(zip(faces, originals, strict=True))
        decibels = np.mean([pictures.psnr(*pair) for pair in both])
        assert report[kind]["psnr"]["value"] == pytest.approx(decibels, abs=1e-3)
        assert report[kind]["ssim"]["value"] == pytest.approx(
            np.mean([pictures.ssim(*pair) for pair in both]), abs=1e-4
        )
        for judge, own in lab.judges.items():
            seen = embed_pictures(load_recognizer(judge, lab.weights), faces).astype(np.float64)
            score = rates.type_one(seen, own.templates, own.score).mean()
            assert report[kind]["scores"][judge]["value"] == pytest.approx(score, abs=1e-4)


def test_pictures_pixel_by_pixel() -> None:
    rng = np.random.default_rng(2)
    originals = rng.integers(0, 256, (5, 40, 40, 3)).astype(np.uint8)
    noise = np.array([0, 1, 6, 40, 255])[:, None, None, None]
    changed = np.clip(originals + (noise * rng.normal(size=originals.shape)).round(), 0, 255).astype(np.uint8)
    changed[3] = 128  # flat: no variance, no covariance
    pairs = list(zip(changed, originals, strict=True))
    assert psnr(changed, originals) == pytest.approx([pictures.psnr(*pair) for pair in pairs], abs=1e-9)
    assert ssim(changed, originals) == pytest.approx([pictures.ssim(*pair) for pair in pairs], abs=1e-6)


@pytest.mark.parametrize("method, epsilon", [("tfgsm", 2 / 255), ("itfgsm", 4 / 255), ("itfgsm", 0.0)])
def test_attacks_stay_in_their_bounds(lab: Lab, method: str, epsilon: float) -> None:
    recognizer = load_recognizer("tiny", lab.weights)
    crops = np.random.default_rng(4).integers(0, 256, (6, 32, 32, 3)).astype(np.uint8)
    crops[0], crops[1] = 0, 255  # nothing below, nothing above
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = facedecode.attack(
            crops,
            recognizer,
            lab.judges["tiny"].templates[0].astype(np.float32),
            threshold=-0.01,
            method=method,
            budget=facedecode.Budget(epsilon=epsilon),
        )
    for attacked, crop, linf in zip(done.crops, crops, done.linf, strict=True):
        assert pictures.largest_change(attacked, crop) <= epsilon + 1e-9
        assert linf == pytest.approx(pictures.largest_change(attacked, crop), abs=1e-6)


@pytest.mark.parametrize("apart", [0.0, 1.0, 20.0])
@pytest.mark.parametrize("ties", [False, True])
def test_linkability(apart: float, ties: bool) -> None:
    rng = np.random.default_rng(6)
    mated, non_mated = rng.normal(apart, 1, 730), rng.normal(0, 1.4, 2000)
    weights = rng.uniform(0.1, 1, 730)
    if ties:
        mated, non_mated = mated.round(1), non_mated.round(1)
    for weight in (np.ones(730), weights):
        d_sys, bits = templates.linkability(mated, non_mated, (weight, np.ones(2000)))
        found = linkability(mated, non_mated, weight)
        # A score on the edge of two bins may round into either.
        assert found.d_sys == pytest.approx(d_sys, abs=2e-2 if ties else 1e-12)
        assert found.maximal == pytest.approx(bits, abs=2e-2 if ties else 1e-12)


@pytest.mark.parametrize("flat", [False, True])
def test_what_a_map_undoes(flat: bool) -> None:
    rng = np.random.default_rng(7)
    original = rng.normal(size=(400, 12))
    perturbed = original @ rng.normal(size=(12, 12)) * 0.4 + rng.normal(size=12) + rng.normal(0, 0.2, (400, 12))
    if flat:  # a number that never varies, and one that another one says
        perturbed[:, 0], perturbed[:, 1] = 3.0, perturbed[:, 2]
    original, perturbed = original.astype(np.float32), perturbed.astype(np.float32)
    held_out = np.arange(400) % 5 == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = facedecode.fit_mapping(
            perturbed, original, RecognizerId("made-up", "0" * 64, dim=12, score="cosine"), held_out=held_out
        )
    matrix = templates.fitted_map(perturbed[~held_out].astype(np.float64), original[~held_out].astype(np.float64))
    undone = templates.mapped(matrix, perturbed)
    assert fitted.apply(perturbed) == pytest.approx(undone, abs=1e-4)
    share = templates.displacement_undone(original[held_out], perturbed[held_out], undone[held_out])
    assert 1 - fitted.report["held_out"]["relative"] == pytest.approx(share, abs=1e-5)


def of_people(classes: bool) -> tuple[np.ndarray, Target, np.ndarray]:
    """Inputs, what is to be read, and folds: 40 people of 1 to 5 images, one of 25."""
    rng = np.random.default_rng(9)
    persons = np.repeat(np.arange(40), [*([1, 2, 3, 5] * 9), 25, 1, 1, 1])
    kind = np.arange(40) % 2
    inputs = rng.normal(size=(len(persons), 8)) + 0.8 * np.outer(2 * kind[persons] - 1, np.eye(8)[0])
    inputs[:, 7] = 4.0  # says nothing
    numbers = inputs[:, 1] + rng.normal(size=len(persons))
    target = Target(kind[persons], persons, ("F", "M")) if classes else Target(numbers, persons)
    return inputs, target, np.arange(40)[persons] // 2 % 4


@pytest.mark.parametrize("classes", [True, False])
def test_a_linear_probe_on_given_folds(classes: bool) -> None:
    inputs, target, fold = of_people(classes)
    answers = out_of_fold(inputs, target, fit_linear, fold, halves=False).said
    people = target.persons.tolist()
    mine = np.empty(len(inputs))
    for number in range(4):
        training, judged = fold != number, fold == number
        part = target.of_people(training)
        # As its definition has it: weights by person and class, standardized inputs, and the penalty of least loss on
        # the people that the definition holds out.
        center = part.weights @ inputs[training]
        spread = np.sqrt(part.weights @ (inputs[training] - center) ** 2)
        x = (inputs - center) / np.where(spread > 1e-9, spread, 1)
        inner = part.held_out(0.15)

        def fit(rows: np.ndarray, penalty: float, x=x[training], part=part) -> np.ndarray:
            weights = part.of_people(rows).weights
            how = templates.logistic_regression if classes else templates.ridge_regression
            return how(x[rows], part.values[rows], weights, penalty)

        def loss(model: np.ndarray, x=x[training], part=part, inner=inner) -> float:
            out = x[inner] @ model[:-1] + model[-1]
            values = part.values[inner]
            each = np.logaddexp(0, out) - values * out if classes else (out - values) ** 2
            return float(part.of_people(inner).weights @ each)

        penalty = min(10.0 ** np.arange(-4, 3), key=lambda strength: loss(fit(~inner, strength)))
        model = fit(np.ones(len(part.values), bool), penalty)
        mine[judged] = x[judged] @ model[:-1] + model[-1]
    if classes:
        assert np.log(answers[:, 1] / answers[:, 0]) == pytest.approx(mine, abs=0.02)  # theirs stops at a tolerance
        figure = templates.balanced_accuracy(answers.argmax(1), target.values, people)
        assert templates.balanced_accuracy(mine > 0, target.values, people) == pytest.approx(figure, abs=0.01)
    else:
        assert answers == pytest.approx(mine, abs=1e-9)
        figure = templates.r_squared(mine, target.values, people)
    assert value_of(answers, target) == pytest.approx(figure, abs=1e-9)


@pytest.mark.parametrize("linkage", ["average", "complete", "ward"])
@pytest.mark.parametrize("end", [4, 1.1])
def test_clusters(linkage: str, end: float) -> None:
    rng = np.random.default_rng(10)
    points = np.concatenate([rng.normal(size=5) * 1.2 + rng.normal(0, 0.5, (count, 5)) for count in (1, 2, 9, 14, 20)])
    distances = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
    mine = templates.agglomerated(distances, np.ones(len(points)), linkage, end)
    ends = {"n_clusters": end} if isinstance(end, int) else {"distance_threshold": end}
    found = facedecode.cluster(points.astype(np.float32), linkage=linkage, metric="euclidean", **ends)
    assert 1 < len(set(mine)) < len(points)  # or nothing is tried
    assert {tuple(np.flatnonzero(found.labels == k)) for k in set(found.labels)} == {
        tuple(np.flatnonzero(mine == k)) for k in set(mine)
    }
    for label, centroid in enumerate(found.centroids):
        assert centroid == pytest.approx(points[found.labels == label].mean(0), abs=1e-5)
    names = [f"P{k}" for k in np.repeat(np.arange(5), (2, 1, 9, 14, 20))]
    index, precision, recall = vars(agreement(found.labels, names)).values()
    assert index == pytest.approx(templates.adjusted_rand(mine, names))
    assert (precision, recall) == pytest.approx(templates.bcubed(mine, names))


def test_silhouettes(tmp_path: Path) -> None:
    store = made_up(tmp_path / "emb", [1, 4, 6, 9], set(), "negative-euclidean", False, seed=11)
    done = json.loads(run("cluster", store, "-o", tmp_path / "clusters", "--n-clusters", 4, "--json", "--quiet"))
    images = read_store(store)
    distances = -np.stack([rates.scores_of(one, images.templates, images.score) for one in images.templates])
    mine = templates.agglomerated(distances, np.ones(len(distances)), "ward", 4)
    assert done["metrics"]["silhouette"] == pytest.approx(templates.silhouette(distances, mine), abs=1e-5)


def test_protocols_of_lfw(lfw: Path) -> None:
    from facedecode.annotations.pairs import read_pairs as pairs_of
    from facedecode.annotations.protocols import people_names

    theirs = pairs_of(lfw / "protocol" / "pairs.txt")
    assert read_pairs(lfw / "protocol" / "pairs.txt") == list(
        zip(theirs.left, theirs.right, theirs.fold.tolist(), strict=True)
    )
    for name in ("people", "peopleDevTrain", "peopleDevTest"):
        sets = read_people(lfw / "protocol" / f"{name}.txt")
        assert set().union(*sets) == set(people_names(lfw / "protocol" / f"{name}.txt"))


@pytest.mark.lfw
@pytest.mark.filterwarnings("ignore::facedecode.errors.FacedecodeWarning")
def test_real_people(lfw: Path, tmp_path: Path) -> None:
    names = ("Aaron_Peirsol", "Abdullah_Gul", "Adrien_Brody", "Albert_Costa")
    paths = [path for name in names for path in sorted((lfw / "images" / name).glob("*"))[:4]]
    facedecode.extract(paths, tmp_path / "emb")
    images: Images = read_store(tmp_path / "emb")
    mated, non_mated, whose = rates.all_pairs(images.templates, images.people, images.score)
    report = evaluated("verification", tmp_path / "report", tmp_path / "emb", "--far", 0.05)
    assert report["eer"]["value"] == pytest.approx(rates.equal_error_rate(mated, non_mated), abs=1e-9)
    refused = {0.05: rates.highest_refused(non_mated, 0.05)}
    check_rates(report, mated, whose, refused, ("tar_at_far", "tar_at_far_by_person"))
