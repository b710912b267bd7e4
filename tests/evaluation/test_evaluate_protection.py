"""`evaluate protection`, on drawn faces: what a scheme cannot change, what a key decides, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rates import tar_at_fmr
from typer.testing import CliRunner
from typer.testing import Result as Done

from facedecode.cli import app
from facedecode.errors import BadInput, WouldNotFit
from facedecode.evaluation.jobs import ProtectionJob
from facedecode.evaluation.protection import evaluate
from facedecode.evaluation.protection.evaluate import evaluate_protection
from facedecode.evaluation.protection.inversion import invert
from facedecode.evaluation.protection.protected import Study, make_study
from facedecode.evaluation.result import Result
from facedecode.files import sha256_file
from facedecode.statistics import linkage
from facedecode.statistics.bootstrap import person_draws
from facedecode.statistics.intervals import corrected
from facedecode.statistics.scores import mated_non_mated_scores
from facedecode.statistics.verification import eer, person_weights
from facedecode.store import Store, StoreWriter
from facedecode.templates.protection import key_id, make_scheme, study_key
from facedecode.templates.transformation import protection_operation, transform_store

KEYS = b"0123456789abcdef", b"fedcba9876543210"


def call(*arguments: object) -> Done:
    return CliRunner().invoke(app, ["evaluate", "protection", *(str(a) for a in arguments)])


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(linkage, "NULL_DRAWS", 20)


def people_file(path: Path, names: list[str]) -> Path:
    path.write_text(f"{len(names)}\n" + "".join(f"{name}\t3\n" for name in names))
    return path


@pytest.fixture
def groups(tmp_path) -> dict:
    """Six people to judge on, three to train on (of four, less one)."""
    test = people_file(tmp_path / "test.txt", [f"P{k}" for k in range(6)])
    train = people_file(tmp_path / "train.txt", [f"P{k}" for k in range(6, 10)])
    return {"people": test, "train_people": train, "exclude": ("P9",)}


def job_of(*stores: Path, weights: Path | None = None, **options) -> ProtectionJob:
    settings = {"fmrs": (0.1, 0.05), "image_size": 16, "repetitions": 100} | options
    return ProtectionJob(stores, weights={"tiny": weights} if weights else {}, **settings)


def evaluated(store: Path, groups: dict, weights: Path, scheme: str, **options) -> tuple[Study, Result]:
    job = job_of(store, weights=weights, scheme=scheme, **groups, **options)
    return make_study(job), evaluate_protection(job)


def protected_store(store: Path, folder: Path, key: bytes, scheme: str = "biohash", **options) -> Path:
    source = Store.open(store)
    options = options if scheme == "rotation" else {"public": source, **options}
    transform_store(source, folder, protection_operation(source, scheme, key, **options))
    return folder


def test_a_rotation_changes_no_rate_and_its_key_gives_everything_away(tiny_store, tiny, groups, monkeypatch):
    inversions = []
    monkeypatch.setattr(evaluate, "invert", lambda *given: inversions.append(invert(*given)) or inversions[-1])
    _, found = evaluated(tiny_store, groups, tiny, "rotation")
    plain, rotated = (found.value("eer", {"system": name}).value for name in ("unprotected", "one-key"))
    assert rotated == pytest.approx(plain)
    change = found.value("eer_change", {"system": "one-key"})
    assert change.value == pytest.approx(0) and change.low == pytest.approx(-change.high) and change.high > 0
    before, after = (list(found.along("fmr", "tar", {"system": name}).values()) for name in ("unprotected", "one-key"))
    assert [rate.value for rate in after] == [rate.value for rate in before]
    assert [row.estimate.value for row in found.rows("tar_change", {"system": "one-key"})] == [0, 0]
    # Ridge is blind to a rotation of its input: with the key it draws what it draws without protection.
    drawn = inversions[0].examples
    assert np.abs(drawn["known"].astype(int) - drawn["unprotected"]).max() <= 1
    assert np.abs(drawn["unknown"].astype(int) - drawn["unprotected"]).max() > 10
    known, unprotected = (
        found.value("type_one", {"attacker": name, "judge": "recognizer", "fmr": 0.1}).value
        for name in ("known", "unprotected")
    )
    assert known == pytest.approx(unprotected, abs=0.06)
    length, own = (found.value("linkability", {"score": s, "images": "same-image"}).value for s in ("length", "own"))
    assert length > own


def test_accuracy_equals_the_scores_of_each_system(tiny_store, tiny, groups):
    study, result = evaluated(tiny_store, groups, tiny, "biohash", bits=64)
    images, training = study.test.images, study.training.images
    assert sorted(set(images.identities)) == [f"P{k}" for k in range(6)]
    assert sorted(set(training.identities)) == ["P6", "P7", "P8"]
    center = training.templates.mean(axis=0, dtype=np.float64)

    def scheme(label):
        return make_scheme("biohash", study_key(0, label), 16, "negative-euclidean", bits=64, center=center)

    own_keys = np.stack(
        [scheme(f"person {n}").protect(t[None])[0] for n, t in zip(images.identities, images.templates, strict=True)]
    )
    expected = {
        "unprotected": (images.templates, "negative-euclidean"),
        "one-key": (scheme("key 1").protect(images.templates), "negative-hamming"),
        "own-keys": (own_keys, "negative-hamming"),
    }
    for name, (templates, kind) in expected.items():
        pairs = mated_non_mated_scores(templates, images.identities, kind)
        assert result.value("eer", {"system": name}).value == eer(pairs.mated, pairs.non_mated).value
        weights = person_weights(pairs.mated_people)
        point = tar_at_fmr(pairs.mated, pairs.non_mated, 0.1, weights)
        rate = result.value("tar", {"system": name, "fmr": 0.1})
        assert rate.value == pytest.approx(point.tar)
        assert rate.threshold == point.threshold
    assert study.key_ids == [key_id(study_key(0, f"key {k}")) for k in range(1, 6)]


def test_changes_are_paired(tiny_store, tiny, groups):
    study, result = evaluated(tiny_store, groups, tiny, "biohash", bits=8)
    names = study.test.images.identities
    pairs = [
        mated_non_mated_scores(study.test.images.templates, names, "negative-euclidean"),
        mated_non_mated_scores(study.test.keys[0], names, "negative-hamming"),
    ]
    changes = []
    for drawn in [np.ones(6, int), *person_draws(6, 100, 0), *(1 - np.eye(6, dtype=int))]:
        # The images themselves are drawn again: a person drawn twice is there as two strangers with equal images
        # of whom nobody is asked.
        rates = []
        for one in pairs:
            left, right = one.non_mated_rows(np.arange(len(one.non_mated)))
            times = drawn[one.left_codes[left]] * drawn[one.left_codes[right]]
            non_mated = np.repeat(one.non_mated, times)
            mated, owners = np.repeat(one.mated, drawn[one.mated_people]), None
            if not len(mated) or not len(non_mated) * 0.1 >= 1:
                break
            threshold = tar_at_fmr(mated, non_mated, 0.1).threshold
            shares = [np.mean(one.mated[one.mated_people == p] >= threshold) for p in range(6)]
            owners = drawn / drawn.sum()
            rates.append(owners @ shares)
        changes.append(rates[1] - rates[0] if len(rates) == 2 else np.nan)
    found = result.value("tar_change", {"system": "one-key", "fmr": 0.1})
    value, changes, without = changes[0], np.array(changes[1:101]), np.array(changes[101:])
    assert np.isfinite(changes).sum() > 95 and found.value == pytest.approx(value)
    assert (found.low, found.high) == pytest.approx(corrected(value, changes, without), abs=0.02)


def test_the_protected_system_judges_with_its_own_key(tiny_store, tiny, groups):
    study, result = evaluated(tiny_store, groups, tiny, "biohash", bits=128)
    rates = result.as_json()["inversion"]
    assert set(rates) == {"unprotected", "known", "unknown", "mean-face"}
    assert all(set(by_judge) == {"recognizer", "system"} for by_judge in rates.values())
    system = result.value("type_one", {"attacker": "known", "judge": "system", "fmr": 0.1})
    pairs = mated_non_mated_scores(study.test.keys[0], study.test.images.identities, "negative-hamming")
    assert system.threshold == tar_at_fmr(pairs.mated, pairs.non_mated, 0.1).threshold
    # The mean face is one picture, so one template: whoever it is taken for, it is taken for them always.
    assert rates["mean-face"]["system"]["type_one"]["pairs"]["0.1"]["n"] == 18


def test_stores_and_keys_made_here_agree(tiny_store, tiny, groups, tmp_path):
    study, derived = evaluated(tiny_store, groups, tiny, "rotation")
    keys = {f"k{k}": study_key(0, f"key {k}") for k in range(1, 6)}
    folders = [protected_store(tiny_store, tmp_path / name, key, "rotation") for name, key in keys.items()]
    job = job_of(tiny_store, *folders, weights=tiny, **groups)
    stored = evaluate_protection(job)
    assert make_study(job).key_ids == study.key_ids
    here, again = derived.as_json(), stored.as_json()
    assert set(again["accuracy"]) == {"unprotected", "one-key"}
    assert again["accuracy"]["one-key"] == here["accuracy"]["one-key"]
    assert again["linkability"]["own"]["different-images"] == here["linkability"]["own"]["different-images"]
    assert set(again["inversion"]["known"]) == {"recognizer"}
    assert again["inversion"]["unknown"]["recognizer"] == here["inversion"]["unknown"]["recognizer"]
    report = stored.report()
    assert any("do not hold its key" in warning for warning in report.warnings)
    assert any("rest on fewer than 30 errors" in warning for warning in report.warnings)
    described = report.provenance
    assert [one["fingerprint"] for one in described["stores"][1:]] == [Store.open(f).fingerprint for f in folders]
    assert described["settings"]["people"] == {"name": "test.txt", "sha256": sha256_file(groups["people"])}
    assert described["settings"]["exclude"] == ["P9"]
    known, decoders = described["decoders"]["known"], derived.report().provenance["decoders"]
    assert len(known["sha256"]) == 64 and len({one["sha256"] for one in decoders.values()}) == len(decoders) > 2
    assert known == {"kind": "ridge", "dim": 16, "image_size": 16, "penalty": 0.01, "sha256": known["sha256"]}
    worst = max(row.estimate.value for row in stored.rows("linkability"))
    longest = stored.value("linkability", {"score": "length", "images": "same-image"})
    assert report.gates["linkability"].value == worst == longest.value


def test_a_center_of_people_to_judge_on_is_refused(tiny_store, groups, tmp_path):
    some = people_file(tmp_path / "some.txt", ["P5", "P7"])

    def stored(name: str, **options) -> ProtectionJob:
        folders = [protected_store(tiny_store, tmp_path / f"{name}{k}", key, **options) for k, key in enumerate(KEYS)]
        return job_of(tiny_store, *folders, **groups)

    with pytest.raises(BadInput, match=r"1 of the people to judge on are in its center \(P5\)"):
        make_study(stored("some", public_people=some))
    others = stored("others", public_people=groups["train_people"])
    assert make_study(others).key_ids == [key_id(key) for key in KEYS]
    path = others.stores[2] / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"center_of": {"people": ["P7"], "paths": []}}))
    with pytest.raises(BadInput, match="does not record whose mean its center is"):
        make_study(others)


def test_people_all_of_whose_images_failed_have_no_key_of_their_own(tiny_store, groups, tmp_path):
    source = Store.open(tiny_store)
    failures = [{"path": f"Lost/{k}.png", "stage": "detect", "reason": "no face found"} for k in range(2)]
    with StoreWriter(tmp_path / "lost", {}, source.root, source.recognizer, manifest={"score": "cosine"}) as writer:
        writer.append(source.templates(), source.rows().to_pylist(), [], 30)
        writer.finish(failures)
    everybody = people_file(tmp_path / "all.txt", [*(f"P{k}" for k in range(6)), "Lost"])
    study = make_study(ProtectionJob([tmp_path / "lost"], "rotation", people=everybody))
    steps = []
    protected = study.protect_apart(lambda done, total: steps.append((done, total)))
    assert steps[-1] == (6, 6)
    assert (~protected.any(axis=1)).tolist() == study.test.images.missing.tolist()


def test_what_does_not_fit_is_refused_before_the_work(tiny_store, tiny, groups, monkeypatch):
    monkeypatch.setattr("facedecode.memory.available_bytes", lambda: 1_000_000)
    with pytest.raises(WouldNotFit, match="a ridge decoder of 16 numbers, and 9 portraits of 128 px"):
        evaluate_protection(job_of(tiny_store, scheme="rotation", fmrs=(0.1,), image_size=None, **groups))


def test_images_without_a_template_match_nothing_and_link_nothing(tiny_store, tiny, groups, tmp_path):
    source = Store.open(tiny_store)
    manifest = {"score": source.score, "transform": None, "precision": "fp32", "l2_normalized": False}
    failures = [{"path": "P0/P0_0009.png", "stage": "detect", "reason": "no face found"}]
    with StoreWriter(tmp_path / "lost", {}, source.root, source.recognizer, manifest=manifest) as writer:
        writer.append(source.templates(), source.rows().to_pylist(), [], 30)
        writer.finish(failures)
    _, whole = evaluated(tiny_store, groups, tiny, "biohash")
    _, lost = evaluated(tmp_path / "lost", groups, tiny, "biohash")
    for row in lost.rows("tar_pairs"):
        before, after = whole.value("tar_pairs", row.labels), row.estimate
        assert (before.n, after.n) == (18, 21)
        assert after.accepted <= before.accepted
    labels = {"score": "own", "images": "same-image"}
    assert lost.value("mated", labels) == whole.value("mated", labels)
    assert lost.value("type_one_pairs", {"attacker": "known", "judge": "system", "fmr": 0.1}).n == 19


# The command


@pytest.fixture
def options(tiny_store, tiny, groups) -> list:
    return [
        *(tiny_store, "--people", groups["people"], "--train-people", groups["train_people"], "--exclude", "P9"),
        *("--weights", f"tiny={tiny}", "--fmr", "0.1", "--image-size", "16", "--repetitions", "100"),
    ]


def test_the_command_reports_and_gates(options, tmp_path):
    gates = ["linkability > 2", "eer[unprotected] > 0.9", "type2[known,system]@fmr=0.2 > 1", "tar@far=0.1 < 0"]
    given = [word for gate in gates for word in ("--fail-if", gate)]
    result = call(*options, "--scheme", "biohash", "-o", tmp_path / "report", "--json", *given)
    assert result.exit_code == 0, result.output
    metrics = json.loads(result.stdout)["metrics"]
    assert set(metrics) == {"accuracy", "linkability", "inversion", "gates"}
    assert set(metrics["inversion"]["known"]["system"]) == {"type_one", "type_two", "mated"}
    assert set(metrics["inversion"]["known"]["system"]["type_two"]["people"]) == {"0.1", "0.2"}
    page = (tmp_path / "report" / "report.html").read_text("utf-8")
    assert "BioHashing" in page
    assert "key unknown" in page
    figures = {path.name for path in (tmp_path / "report" / "figures").iterdir()}
    assert figures == {"drawn.png", "linkability-own-different-images.svg", "linkability-own-same-image.svg"}
    missed = call(*options, "--scheme", "biohash", "--fail-if", "type1[known]@fmr=0.1 > -1")
    assert missed.exit_code == 5


def test_people_whom_the_templates_owe_something_to_are_not_judged(tiny_store, groups):
    path = tiny_store / "manifest.json"
    manifest = json.loads(path.read_text())
    trained = {"recognizer": manifest["recognizer"] | {"training_people": ["P5", "P6"]}}
    mapped = {"mapping": {"undoes": "rotate30"}, "fitted_on": ["P5", "P6"]}
    for change, said in ((trained, "recognizer tiny: trained on"), (mapped, "mapping of these templates")):
        path.write_text(json.dumps(manifest | change))
        with pytest.raises(BadInput, match=rf"{said}.* 1 of the 6 people .*\(P5\)"):
            make_study(job_of(tiny_store, scheme="rotation", **groups))


def test_without_training_people_nothing_is_inverted(tiny_store, groups):
    result = call(
        tiny_store,
        "--scheme",
        "rotation",
        "--people",
        groups["people"],
        "--fmr",
        "0.1",
        "--repetitions",
        "100",
        "--json",
    )
    assert result.exit_code == 0, result.output
    assert "inversion" not in json.loads(result.stdout)["metrics"]
    assert "No decoder was trained" in result.stderr


@pytest.mark.parametrize(
    "option", [("--attacker", "nearest"), ("--image-size", "64"), ("--images", "."), ("--weights", "tiny=.")]
)
def test_options_of_an_attacker_need_one(tiny_store, groups, option):
    result = call(tiny_store, "--scheme", "rotation", "--people", groups["people"], *option)
    refused(result, 2, f"{option[0]} is for an attacker's pictures")


def test_equal_runs_give_equal_numbers(options):
    first, second = (call(*options, "--scheme", "rotation", "--json").stdout for _ in range(2))
    assert json.loads(first) == json.loads(second)
    other = call(*options, "--scheme", "rotation", "--json", "--seed", "1").stdout
    assert json.loads(other)["metrics"]["linkability"] != json.loads(first)["metrics"]["linkability"]


def refused(result: Done, code: int, said: str) -> None:
    assert result.exit_code == code, result.output
    assert said in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert sum(line.startswith("error") for line in result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--scheme", "rot13"], 2, "use rotation or biohash"),
        (["--scheme", "rotation", "--keys", "1"], 2, "two keys or more"),
        (["--scheme", "rotation", "--bits", "16"], 2, "leave --bits"),
        (["--scheme", "biohash", "--bits", "999"], 2, "8 to 256 bits"),
        (["--scheme", "rotation", "--fmr", "0.0001"], 4, "cannot resolve"),
        (["--scheme", "rotation", "--attacker", "dfd"], 2, "--attacker dfd: use"),
        (["--scheme", "rotation", "--fail-if", "psnr < 1"], 2, "no figure 'psnr'"),
        (["--scheme", "biohash", "--fail-if", "linkability[length,same-image] > 1"], 2, "no figure 'linkability[len"),
        (["--scheme", "rotation", "--no-center"], 2, "a rotation has no center"),
        (["--scheme", "rotation", "--keys", "2"], 4, "36 mated comparisons across keys, and linkability needs 100"),
        (["--scheme", "rotation", "--images", "."], 4, "name their folder with --images"),
        (["--scheme", "rotation", "--exclude", "Nobody"], 4, "nobody among the training people"),
        ([], 2, "give stores under two keys, or --scheme"),
        (["--no-center"], 2, "go with --scheme"),
    ],
)
def test_one_line_for_each_mistake(options, more, code, said):
    refused(call(*options, *more), code, said)


def test_people_are_judged_or_trained_on(tiny_store, tiny, groups):
    result = call(tiny_store, "--scheme", "rotation", "--people", groups["people"], "--train-people", groups["people"])
    refused(result, 4, "6 people are judged and trained on (P0, P1, P2, …)")
    result = call(tiny_store, "--scheme", "rotation", "--train-people", groups["train_people"])
    refused(result, 4, "4 people are judged and trained on")
    refused(
        call(tiny_store, "--scheme", "biohash", "--people", groups["people"]), 2, "give --train-people, or --no-center"
    )
    refused(call(tiny_store, "--scheme", "rotation", "--exclude", "P1"), 2, "give it")


def test_stores_that_do_not_belong_together(tiny_store, make_store, tmp_path):
    one = protected_store(tiny_store, tmp_path / "one", KEYS[0])
    same = protected_store(tiny_store, tmp_path / "same", KEYS[0])
    other = protected_store(tiny_store, tmp_path / "other", KEYS[1])
    long = protected_store(tiny_store, tmp_path / "long", KEYS[1], bits=64)
    turned = protected_store(tiny_store, tmp_path / "turned", KEYS[1], "rotation")
    refused(call(tiny_store, one), 2, "give stores under two keys")
    refused(call(tiny_store, one, same), 4, "protected with one and the same key")
    refused(call(tiny_store, one, long), 4, "protected in different ways")
    refused(call(tiny_store, one, turned), 4, "protected in different ways")
    refused(call(tiny_store, one, tiny_store), 4, "its templates are not protected")
    refused(call(one, one, other), 4, "its templates are protected")
    refused(call(one, "--scheme", "rotation"), 4, "its templates are protected")
    refused(call(tiny_store, one, other, "--scheme", "rotation"), 2, "give --scheme and one store")
    refused(call(tiny_store, one, other, "--keys", "3"), 2, "go with --scheme")
    source = Store.open(tiny_store)
    rows = source.rows().to_pylist()
    with StoreWriter(tmp_path / "fewer", {}, source.root, source.recognizer, manifest={"score": "cosine"}) as writer:
        writer.append(source.templates()[:29], rows[:29], [], 29)
        writer.finish()
    refused(call(tmp_path / "fewer", one, other), 4, "its images or people are not those of")
