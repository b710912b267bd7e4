"""Disentanglers: parts of templates, joined again, as files and on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from csv import DictReader
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.linalg import sqrtm
from typer.testing import CliRunner, Result

from facedecode.attributes.disentangler import Disentangler, load_disentangler
from facedecode.attributes.disentangler_fit import barycenter_maps, fit_disentangler
from facedecode.attributes.probe import PROBES, out_of_fold
from facedecode.attributes.reading import Reading
from facedecode.attributes.target import Target
from facedecode.cli import app
from facedecode.errors import BadInput, OutputError, UsageError
from facedecode.identity import RecognizerId
from facedecode.provenance import describe_store
from facedecode.store import Store, StoreWriter
from facedecode.store.processing import refuse_done
from facedecode.templates.transformation import require_extracted

PEOPLE, EACH, DIM = 400, 3, 8
PERSONS = np.repeat(np.arange(PEOPLE), EACH)
NAMES = [f"P{person:03d}" for person in PERSONS]
RECOGNIZER = RecognizerId("made-up", "0" * 64, dim=DIM, score="cosine")


def planted(seed: int = 0, people: int = PEOPLE) -> tuple[np.ndarray, list[str]]:
    """Templates of people, a few each, whose classes differ by mean and by spread; half of the people are of each."""
    rng = np.random.default_rng([seed, 1])  # not the draw that parts people into folds
    of_class = np.repeat(rng.permutation(people) % 2, EACH)
    x = rng.normal(size=(people, DIM)).repeat(EACH, axis=0) + 0.3 * rng.normal(size=(people * EACH, DIM))
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(DIM, DIM)))[0]
    x[of_class == 1] = x[of_class == 1] * np.linspace(0.2, 3, DIM) @ turn
    x[:, 0] += 8 * of_class
    return (x + 1).astype(np.float32), ["M" if k else "F" for k in of_class]


def fitted(shrinkage: float = 0.001) -> Disentangler:
    x, labels = planted()
    return fit_disentangler(x, labels, NAMES, RECOGNIZER, attribute="gender", classes=("F", "M"), shrinkage=shrinkage)


@pytest.fixture(scope="module")
def made() -> Disentangler:
    return fitted()


# Parts


def test_identity_parts_say_nothing_of_what_templates_do():
    many, labels = planted(1, people=2100)
    names = [f"other {k // EACH}" for k in range(len(many))]
    own = fit_disentangler(many, labels, names, RECOGNIZER, attribute="gender", classes=("F", "M"))
    x, labels = planted()
    target = Target.of_labels(labels, PERSONS)
    fold = target.folds(4)
    identity, told = own.split(x)
    assert identity.dtype == np.float32 and identity.shape == x.shape
    assert (told.argmax(1) == target.values).mean() > 0.98
    for probe in ("linear", "quadratic"):
        before, after = (
            Reading.of(out_of_fold(inputs, target, PROBES[probe], fold), target, 200).estimate()
            for inputs in (x, identity)
        )
        assert before.value > 0.97 and 0.4 < after.value < 0.62
    report = own.report
    for probe, found in report["probes"].items():
        assert found["template"]["value"] > 0.95 and found["identity"]["value"] < 0.6, probe
    assert report["told"]["n"] == sum(report["held_out_people"].values()) > 200


def test_components_of_identity_parts(made: Disentangler):
    x, _ = planted()
    identity = made.identity(x).astype(np.float64)
    assert made.identity(x, DIM) == pytest.approx(identity, abs=1e-4)
    before = None
    for kept in (1, 3, 6):
        fewer = made.identity(x, kept)
        assert fewer.dtype == np.float32 and np.linalg.matrix_rank(fewer - fewer.mean(0), tol=1e-3) == kept
        # The closest to them of so few dimensions, as an independent computation has it, but for who was held out.
        spread = np.linalg.svd(identity - identity.mean(0), compute_uv=False)
        lost = np.sqrt(((fewer - identity) ** 2).sum())
        assert lost == pytest.approx(np.sqrt((spread[kept:] ** 2).sum()), rel=0.03)
        assert before is None or lost < before
        before = lost
    for wrong in (0, DIM + 1):
        with pytest.raises(UsageError, match=f"--components {wrong}: .* identity parts of 8 numbers"):
            made.identity(x, wrong)


def test_moments_of_both_classes_become_those_of_the_barycenter():
    rng = np.random.default_rng(2)
    a, b = (m @ m.T + 0.1 * np.eye(5) for m in rng.normal(size=(2, 5, 5)))
    first, second = barycenter_maps(np.stack([a, b]))
    common = first @ a @ first
    assert second @ b @ second == pytest.approx(common, abs=1e-8)
    # The barycenter is the fixed point of Alvarez-Esteban et al. (2016).
    root = np.real(sqrtm(common))
    again = sum(np.real(sqrtm(root @ c @ root)) for c in (a, b)) / 2
    assert again == pytest.approx(common, abs=1e-6)
    assert np.linalg.eigvalsh(first).min() > 0 and np.linalg.eigvalsh(second).min() > 0  # gradients of convex ones


def test_where_classes_are_alike_nothing_moves():
    same = np.stack([np.diag([1.0, 2, 3])] * 2)
    assert barycenter_maps(same) == pytest.approx(np.stack([np.eye(3)] * 2))


def test_parts_joined_are_the_template(made: Disentangler):
    x, _ = planted()
    identity, told = made.split(x)
    assert set(np.unique(told)) == {0, 1} and (told.sum(1) == 1).all()
    assert np.abs(made.join(identity, told) - x).max() < 1e-4
    assert np.abs(made.resynthesize(x) - x).max() < 1e-4
    halves = made.join(identity, np.full((len(x), 2), 0.5))
    ends = [made.join(identity, np.tile(end, (len(x), 1))) for end in np.eye(2)]
    assert halves == pytest.approx((ends[0] + ends[1]) / 2, abs=1e-4)


def test_another_class_is_told_and_identity_stays(made: Disentangler):
    x, _ = planted()
    for number, name in enumerate(made.classes):
        swapped = made.resynthesize(x, dependent=name)
        assert (made.posterior(swapped).argmax(1) == number).mean() > 0.97
        sure = made.posterior(swapped).argmax(1) == number
        assert made.split(swapped)[0][sure] == pytest.approx(made.split(x)[0][sure], abs=1e-3)
        kept = made.split(x)[1][:, number] == 1
        assert swapped[kept] == pytest.approx(x[kept], abs=1e-4)


def test_the_average_person_of_a_class(made: Disentangler):
    x, _ = planted()
    found = made.resynthesize(x[:3], "M", "F")
    assert np.ptp(found, axis=0).max() == 0
    assert found[0] == pytest.approx(
        (made.class_means[0] - made.common_mean) @ made.from_common[1] + made.means[1], 1e-4
    )
    everybody = made.resynthesize(x[:3], "mean", "mean")
    one = made.class_means.mean(0)[None]
    assert everybody[0] == pytest.approx(made.join(one, [[0.5, 0.5]])[0], abs=1e-5)
    for wrong in ({"dependent": "X"}, {"independent": "m"}):
        with pytest.raises(UsageError, match="knows keep, F, M and mean"):
            made.resynthesize(x, **wrong)


def test_probabilities_are_bayes(made: Disentangler):
    from scipy.stats import multivariate_normal

    x, _ = planted()
    densities = np.stack(
        [multivariate_normal(m, c).logpdf(x[:50]) for m, c in zip(made.means, made.covariances, strict=True)], axis=1
    )
    odds = made.posterior(x[:50])
    assert odds.sum(1) == pytest.approx(np.ones(50))
    assert odds[:, 1] == pytest.approx(
        1 / (1 + np.exp(np.clip(densities[:, 0] - densities[:, 1], -700, 700))), abs=1e-9
    )


def test_every_person_counts_alike():
    x, labels = planted()
    first = np.flatnonzero(PERSONS == 1)
    more = np.concatenate([np.arange(len(x)), np.tile(first, 50)])
    options = {"attribute": "gender", "classes": ("F", "M")}
    once = fit_disentangler(x, labels, NAMES, RECOGNIZER, **options)
    often = fit_disentangler(x[more], [labels[i] for i in more], [NAMES[i] for i in more], RECOGNIZER, **options)
    assert often.means == pytest.approx(once.means, abs=1e-9)
    assert often.covariances == pytest.approx(once.covariances, abs=1e-9)


def test_the_report_is_of_people_held_out(made: Disentangler):
    report = made.report
    assert sum(report["held_out_people"].values()) + sum(report["training_people"].values()) == PEOPLE
    assert report["held_out_images"] == EACH * sum(report["held_out_people"].values())
    assert report["told"]["value"] > 0.9 and report["told"]["n"] == sum(report["held_out_people"].values())


# Files


def test_a_file_keeps_all(made: Disentangler, tmp_path: Path):
    path = tmp_path / "gender.safetensors"
    made.save(path)
    again = load_disentangler(path)
    x, _ = planted()
    assert np.array_equal(again.split(x)[0], made.split(x)[0])
    assert (again.classes, again.attribute, again.report, again.source) == (("F", "M"), "gender", made.report, path)
    fitted().save(tmp_path / "second.safetensors")
    assert path.read_bytes() == (tmp_path / "second.safetensors").read_bytes()
    with pytest.raises(BadInput, match=r"gender.safetensors: this disentangler is for made-up"):
        again.require_recognizer(replace(RECOGNIZER, weights_sha256="1" * 64))
    with pytest.raises(BadInput, match="gone: no such disentangler; make one with 'facedecode train --kind dis"):
        load_disentangler(tmp_path / "gone")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"means": np.zeros((2, DIM + 1))}, "means of shape"),
        ({"common_mean": np.full(DIM, np.nan)}, "NaN or infinite"),
        ({"to_common": np.zeros((2, DIM, DIM))}, "do not undo each other"),
        ({"axes": np.ones((DIM, DIM))}, "axes are not orthonormal"),
        ({"covariances": -np.tile(np.eye(DIM), (2, 1, 1))}, "not positive"),
        ({"classes": ("F", "mean")}, "two classes, called other than"),
        ({"classes": ("F", "F")}, "two classes"),
        ({"recognizer": replace(RECOGNIZER, dim=DIM + 1)}, "cannot be for templates of 9"),
    ],
)
def test_what_is_no_disentangler(made: Disentangler, change: dict, said: str):
    names = ("attribute", "classes", "means", "covariances", "to_common", "from_common", "common_mean")
    fields = {name: getattr(made, name) for name in (*names, "class_means", "axes", "recognizer")}
    with pytest.raises(BadInput, match=said):
        Disentangler(**fields | change)


def test_other_shapes_are_refused(made: Disentangler):
    for call in (made.posterior, made.split):
        with pytest.raises(BadInput, match=r"takes templates \(n, 8\)"):
            call(np.zeros((2, DIM - 1)))
    with pytest.raises(BadInput, match=r"dependent parts \(2, 2\)"):
        made.join(np.zeros((2, DIM)), np.zeros((2, 3)))
    x, labels = planted()
    with pytest.raises(UsageError, match="a shrinkage of 0"):
        fitted(0)
    options = {"attribute": "gender", "classes": ("F", "M")}
    with pytest.raises(BadInput, match="NaN"):
        fit_disentangler(np.full_like(x, np.nan), labels, NAMES, RECOGNIZER, **options)
    with pytest.raises(BadInput, match="all equal"):
        fit_disentangler(np.ones_like(x), labels, NAMES, RECOGNIZER, **options)


# Command line


def write_store(folder: Path, name: str = "made-up", **more: object) -> None:
    x, _ = planted()
    manifest = {"score": "cosine", "precision": "fp32", "l2_normalized": False, "transform": None, **more}
    recognizer = replace(RECOGNIZER, name=name)
    with StoreWriter(folder, {"n": 1}, folder.parent, recognizer, 500, manifest=manifest) as writer:
        rows = [{"path": f"{NAMES[k]}/{k}.jpg", "sha256": f"{k}", "identity": NAMES[k]} for k in range(len(x))]
        for start in range(0, len(rows), 500):
            part = slice(start, start + 500)
            writer.append(x[part], rows[part], [], start + len(x[part]))
        writer.finish()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store `emb`, and `labels.csv`, which lacks the last two images."""
    monkeypatch.chdir(tmp_path)
    write_store(tmp_path / "emb")
    _, labels = planted()
    lines = [
        f"{NAMES[k]}/{k}.jpg,{labels[k]},{'abc'[PERSONS[k] % 3]},one,{'rare' if PERSONS[k] < 3 else 'many'}"
        for k in range(len(labels) - 2)
    ]
    (tmp_path / "labels.csv").write_text("path,gender,three,constant,rare\n" + "\n".join(lines) + "\n")
    return tmp_path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def train(*more: object, store: str = "emb", output: str = "gender.safetensors", label: str = "gender") -> Result:
    kind = ("--kind", "disentangler", "--labels", "labels.csv", "--label", label)
    return call("train", store, "-o", output, *kind, *more)


def test_train_and_transform(here: Path):
    done = train("--json")
    assert done.exit_code == 0, done.output
    metrics = json.loads(done.stdout)["metrics"]
    assert metrics["unlabelled"] == 2 and "people" not in metrics["provenance"]
    assert "2 of 1200 images have no 'gender' and are left out" in done.stderr
    made = load_disentangler(here / "gender.safetensors")
    assert made.report["provenance"]["people"] == sorted(set(NAMES))
    before = (here / "gender.safetensors").read_bytes()
    assert train().exit_code == 0 and (here / "gender.safetensors").read_bytes() == before  # what is there is taken
    other = train("--exclude", "P003")
    assert other.exit_code == 4 and "holds a disentangler of other data or settings" in other.output
    assert train("--exclude", "P003", "--overwrite", output="other.safetensors").exit_code == 0
    assert "P003" not in load_disentangler(here / "other.safetensors").report["provenance"]["people"]

    x, _ = planted()
    ways = {
        "identity": ([], made.split(x)[0]),
        "named": (["--part", "identity"], made.split(x)[0]),
        "four": (["--components", 4], made.identity(x, 4)),
        "as-m": (["--dependent", "M"], made.resynthesize(x, "M")),
        "mean": (["--dependent", "keep", "--independent", "mean"], made.resynthesize(x, "keep", "mean")),
    }
    for name, (options, expected) in ways.items():
        done = call("transform", "emb", "-o", name, "--disentangle", "gender.safetensors", *options)
        assert done.exit_code == 0, done.output
        store = Store.open(here / name)
        assert store.templates() == pytest.approx(expected, abs=1e-5)
        assert store.recognizer == Store.open(here / "emb").recognizer and store.manifest.disentanglement["sha256"]
        assert describe_store(store)["disentanglement"] == store.manifest.disentanglement
        with pytest.raises(BadInput, match="templates that were disentangled"):
            require_extracted(store)
        with pytest.raises(BadInput, match="templates that were disentangled"):
            refuse_done(store.manifest, store.folder, reason="so")
    again = call("transform", "identity", "-o", "twice", "--disentangle", "gender.safetensors")
    assert again.exit_code == 4 and "that were disentangled" in again.output
    (here / "key").write_bytes(b"0123456789abcdef")
    assert call("transform", "identity", "-o", "turned", "--protect", "rotation", "--key-file", "key").exit_code == 0
    assert (
        Store.open(here / "turned").manifest.disentanglement == Store.open(here / "identity").manifest.disentanglement
    )
    assert call("aggregate", "identity", "-o", "people").exit_code == 0
    assert Store.open(here / "people").manifest.disentanglement


@pytest.mark.filterwarnings("ignore:.* by file only, as these templates were changed since")
def test_evaluations_take_both_for_people_it_was_not_fitted_on(here: Path):
    people = sorted(set(NAMES))
    for name, chosen in (("fitted.txt", people[::2]), ("others.txt", people[1::2])):
        (here / name).write_text("\n".join(chosen) + "\n")
    assert train("--people", "fitted.txt").exit_code == 0
    assert call("transform", "emb", "-o", "identity", "--disentangle", "gender.safetensors").exit_code == 0
    assert Store.open(here / "identity").manifest.fitted_on == tuple(people[::2])
    options = ["--labels", "labels.csv", "--label", "gender", "--decoder", "none", "--repetitions", 100, "--folds", 2]
    for report, command in (
        ("report", ("evaluate", "leakage", "emb", "identity", *options)),
        ("scores", ("evaluate", "verification", "identity", "--repetitions", 100)),
    ):
        refused = call(*command, "-o", report)
        said = "identity: the disentanglement of these templates was fitted on 200 of the 400 people"
        assert refused.exit_code == 4 and said in refused.stderr
        done = call(*command, "-o", report, "--people", "others.txt")
        assert done.exit_code == 0, done.output


def test_refusals(here: Path):
    assert train().exit_code == 0
    write_store(here / "normalized", l2_normalized=True)
    write_store(here / "mapped", mapping={"undoes": "x", "sha256": "0"})
    write_store(here / "another", name="another")
    (here / "few.txt").write_text("\n".join(sorted(set(NAMES))[:12]) + "\n")

    def transform(*more: object, store: str = "emb") -> Result:
        return call("transform", store, "-o", "new", "--disentangle", "gender.safetensors", *more)

    kind = ("train", "emb", "-o", "new", "--kind")
    for done, code, said in [
        (train(output="new", label="three"), 4, "3 labels in 'three' (a, b, c); an attribute of two classes"),
        (train(output="new", label="constant"), 4, "1 labels in 'constant'"),
        (train(output="new", label="rare"), 4, "people of class 'rare' to fit on"),
        (train("--people", "few.txt", output="new"), 4, "to fit on (others are held out), and 10 are needed"),
        (train(output="new", label="age"), 4, "no column 'age'"),
        (train(store="normalized", output="new"), 4, "templates that are normalized"),
        (train(store="mapped", output="new"), 4, "templates that were mapped"),
        (train(output="emb"), 4, "is a folder"),
        (train("--epochs", 5, output="new"), 2, "--epochs does not go with --kind disentangler"),
        (train("--min-images", 5, output="new"), 2, "--min-images does not go with --kind disentangler"),
        (call(*kind, "disentangler"), 2, "needs --labels and --label"),
        (call(*kind, "classifier", "--label", "gender"), 2, "--label does not go with --kind classifier"),
        (
            call(*kind, "decoder", "--label", "gender"),
            2,
            "--label does not go with --architecture dfd",
        ),
        (transform("--part", "gender"), 2, "--part gender: use identity"),
        (transform("--part", "identity", "--dependent", "F"), 2, "give one"),
        (transform("--dependent", "X"), 2, "--dependent X: gender.safetensors: this disentangler knows keep, F, M and"),
        (
            transform("--components", 9),
            2,
            "this disentangler has identity parts of 8 numbers",
        ),
        (transform("--components", 3, "--dependent", "F"), 2, "--components are of the identity part"),
        (transform("--protect", "rotation"), 2, "give one of --protect, --mapping and --disentangle"),
        (transform("--bits", 3), 2, "go with --protect"),
        (transform(store="another"), 4, "this disentangler is for made-up"),
        (transform(store="mapped"), 4, "templates that were mapped"),
        (
            call("transform", "emb", "-o", "new", "--protect", "rotation", "--part", "identity"),
            2,
            "go with --disentangle",
        ),
        (
            call("transform", "emb", "-o", "new", "--disentangle", "labels.csv"),
            4,
            "labels.csv: not a readable safetensors",
        ),
    ]:
        assert done.exit_code == code and said in " ".join(done.output.split()), (said, done.exit_code, done.output)
        assert not (here / "new").exists()


def test_what_suppression_costs(here: Path, script: Callable[[str], ModuleType]):
    people = sorted(set(NAMES))
    for name, chosen in (("fitted.txt", people[::2]), ("judged.txt", people[1::2])):
        (here / name).write_text("\n".join(chosen) + "\n")
    tradeoff = script("disentanglement_tradeoff")
    options = ["emb", "--labels", "labels.csv", "--label", "gender", "--train-people", "fitted.txt", "-o", "curve"]
    options += ["--repetitions", "50", "--people"]
    tradeoff.main([*options, "judged.txt", "--shares", "0", "1", "--kept", "4", "64"])
    with (here / "curve" / "tradeoff.csv").open() as lines:
        rows = {row["template"]: {k: float(v) for k, v in row.items() if k != "template"} for row in DictReader(lines)}
    assert list(rows) == ["as it is", "100% of the way", "4 components"]  # there are no 64
    plain, full, few = rows.values()
    assert plain["quadratic"] > 0.97 and plain["less the plain one's"] == 0
    assert full["quadratic"] < 0.75 and full["mlp"] < plain["mlp"] - 0.2
    assert few["tar at far 0.01"] < full["tar at far 0.01"] - 0.1
    assert full["less the plain one's"] == pytest.approx(full["tar at far 0.01"] - plain["tar at far 0.01"], abs=2e-4)
    assert (here / "curve" / "tradeoff.svg").read_bytes().startswith(b"<?xml")
    for people, said in (("fitted.txt", "200 people are fitted on and judged"), ("judged.txt", "is there already")):
        with pytest.raises((BadInput, OutputError), match=said):
            tradeoff.main([*options, people, *(["--overwrite"] if people == "fitted.txt" else [])])
