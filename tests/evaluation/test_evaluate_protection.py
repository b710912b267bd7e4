"""`evaluate protection`, on drawn faces: what a scheme cannot change, what a key decides, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from facedecode.cli import app
from facedecode.errors import BadInput, WouldNotFit
from facedecode.evaluation.protection import linkage
from facedecode.evaluation.protection.measure import Settings, evaluate_protection
from facedecode.evaluation.protection.protected import SubjectSplit, derived_study, stored_study
from facedecode.evaluation.protection.report import protection_report
from facedecode.files import sha256_file
from facedecode.recognizers import load_recognizer
from facedecode.statistics.bootstrap import person_draws
from facedecode.statistics.intervals import corrected
from facedecode.statistics.scores import mated_non_mated_scores
from facedecode.statistics.verification import eer, person_weights, tar_at_fmr
from facedecode.store import Store, StoreWriter
from facedecode.templates.protection import key_id, make_scheme, study_key
from facedecode.templates.transformation import protection_operation, transform_store

KEYS = b"0123456789abcdef", b"fedcba9876543210"
SETTINGS = Settings(fmrs=(0.1, 0.05), image_size=16, repetitions=100)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", "protection", *(str(a) for a in arguments)])


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(linkage, "NULL_DRAWS", 20)


def people_file(path: Path, names: list[str]) -> Path:
    path.write_text(f"{len(names)}\n" + "".join(f"{name}\t3\n" for name in names))
    return path


@pytest.fixture
def groups(tmp_path) -> SubjectSplit:
    """Six people to judge on, three to train on (of four, less one)."""
    test = people_file(tmp_path / "test.txt", [f"P{k}" for k in range(6)])
    train = people_file(tmp_path / "train.txt", [f"P{k}" for k in range(6, 10)])
    return SubjectSplit(test, train, ("P9",))


def evaluated(store: Path, groups: SubjectSplit, weights: Path, scheme: str, **options):
    study = derived_study(Store.open(store), groups, scheme, keys=5, **options)
    return study, evaluate_protection(study, SETTINGS, load_recognizer(store_name(store), weights))


def store_name(store: Path) -> str:
    return Store.open(store).recognizer.name


def protected_store(store: Path, folder: Path, key: bytes, scheme: str = "biohash", **options) -> Path:
    source = Store.open(store)
    options = options if scheme == "rotation" else {"public": source, **options}
    transform_store(source, folder, protection_operation(source, scheme, key, **options))
    return folder


def test_a_rotation_changes_no_rate_and_its_key_gives_everything_away(tiny_store, tiny, groups):
    _, figures = evaluated(tiny_store, groups, tiny, "rotation")
    plain, rotated = figures.accuracy["unprotected"], figures.accuracy["one-key"]
    assert rotated.eer.value == pytest.approx(plain.eer.value)
    assert (rotated.eer_change.value, rotated.eer_change.low, rotated.eer_change.high) == pytest.approx((0, 0, 0))
    assert [rate.value for rate in rotated.tar["people"]] == [rate.value for rate in plain.tar["people"]]
    assert [change.value for change in rotated.tar_change] == [0, 0]
    # Ridge is blind to a rotation of its input: with the key it draws what it draws without protection.
    drawn = figures.inversion.examples
    assert np.abs(drawn["known"].astype(int) - drawn["unprotected"]).max() <= 1
    assert np.abs(drawn["unknown"].astype(int) - drawn["unprotected"]).max() > 10
    rates = figures.inversion.rates
    assert rates["known"]["recognizer"].type_one["people"][0].value == pytest.approx(
        rates["unprotected"]["recognizer"].type_one["people"][0].value, abs=0.06
    )
    assert figures.linkage["length", "same-image"].d_sys.value > figures.linkage["own", "same-image"].d_sys.value


def test_accuracy_equals_the_scores_of_each_system(tiny_store, tiny, groups):
    study, figures = evaluated(tiny_store, groups, tiny, "biohash", bits=64)
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
        found = figures.accuracy[name]
        assert found.eer.value == eer(pairs.mated, pairs.non_mated).value
        weights = person_weights(pairs.mated_people)
        point = tar_at_fmr(pairs.mated, pairs.non_mated, 0.1, weights)
        assert found.tar["people"][0].value == pytest.approx(point.tar)
        assert found.tar["people"][0].threshold == point.threshold
    assert study.key_ids == [key_id(study_key(0, f"key {k}")) for k in range(1, 6)]


def test_changes_are_paired(tiny_store, tiny, groups):
    study, figures = evaluated(tiny_store, groups, tiny, "biohash", bits=8)
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
    found = figures.accuracy["one-key"].tar_change[0]
    value, changes, without = changes[0], np.array(changes[1:101]), np.array(changes[101:])
    assert np.isfinite(changes).sum() > 95 and found.value == pytest.approx(value)
    assert (found.low, found.high) == pytest.approx(corrected(value, changes, without), abs=0.02)


def test_the_protected_system_judges_with_its_own_key(tiny_store, tiny, groups):
    study, figures = evaluated(tiny_store, groups, tiny, "biohash", bits=128)
    rates = figures.inversion.rates
    assert set(rates) == {"unprotected", "known", "unknown", "mean-face"}
    assert all(set(by_judge) == {"recognizer", "system"} for by_judge in rates.values())
    system = rates["known"]["system"].type_one["people"][0]
    pairs = mated_non_mated_scores(study.test.keys[0], study.test.images.identities, "negative-hamming")
    assert system.threshold == tar_at_fmr(pairs.mated, pairs.non_mated, 0.1).threshold
    # The mean face is one picture, so one template: whoever it is taken for, it is taken for them always.
    assert rates["mean-face"]["system"].type_one["pairs"][0].n == 18


def test_stores_and_keys_made_here_agree(tiny_store, tiny, groups, tmp_path):
    study, figures = evaluated(tiny_store, groups, tiny, "rotation")
    keys = {f"k{k}": study_key(0, f"key {k}") for k in range(1, 6)}
    folders = [protected_store(tiny_store, tmp_path / name, key, "rotation") for name, key in keys.items()]
    stored = stored_study(Store.open(tiny_store), [Store.open(folder) for folder in folders], groups)
    again = evaluate_protection(stored, SETTINGS, load_recognizer("tiny", tiny))
    assert stored.key_ids == study.key_ids
    assert set(again.accuracy) == {"unprotected", "one-key"}
    assert again.accuracy["one-key"] == figures.accuracy["one-key"]
    assert again.linkage["own", "different-images"].d_sys == figures.linkage["own", "different-images"].d_sys
    assert set(again.inversion.rates["known"]) == {"recognizer"}
    assert again.inversion.rates["unknown"]["recognizer"] == figures.inversion.rates["unknown"]["recognizer"]
    report = protection_report(again, stored)
    assert any("do not hold its key" in warning for warning in report.warnings)
    assert any("fewer than 30 successes" in warning for warning in report.warnings)
    described = report.provenance
    assert [one["fingerprint"] for one in described["stores"][1:]] == [Store.open(f).fingerprint for f in folders]
    assert described["settings"]["people"] == {"file": "test.txt", "sha256": sha256_file(groups.people)}
    assert described["settings"]["exclude"] == ["P9"]
    assert described["decoders"]["known"] == {"kind": "ridge", "dim": 16, "image_size": 16, "penalty": 0.01}
    worst = max(found.d_sys.value for found in again.linkage.values())
    assert report.gates["linkability"].value == worst == again.linkage["length", "same-image"].d_sys.value


def test_a_center_of_people_to_judge_on_is_refused(tiny_store, groups, tmp_path):
    source = Store.open(tiny_store)
    some = people_file(tmp_path / "some.txt", ["P5", "P7"])

    def stored(name: str, **options) -> list[Store]:
        folders = [protected_store(tiny_store, tmp_path / f"{name}{k}", key, **options) for k, key in enumerate(KEYS)]
        return [Store.open(folder) for folder in folders]

    with pytest.raises(BadInput, match=r"1 of the people to judge on are in its center \(P5\)"):
        stored_study(source, stored("some", public_people=some), groups)
    others = stored("others", public_people=groups.train_people)
    assert stored_study(source, others, groups).key_ids == [key_id(key) for key in KEYS]
    others[1].manifest = replace(others[1].manifest, center_of={"people": ["P7"], "paths": []})
    with pytest.raises(BadInput, match="does not record whose mean its center is"):
        stored_study(source, others, groups)


def test_people_all_of_whose_images_failed_have_no_key_of_their_own(tiny_store, groups, tmp_path):
    source = Store.open(tiny_store)
    failures = [{"path": f"Lost/{k}.png", "stage": "detect", "reason": "no face found"} for k in range(2)]
    with StoreWriter(tmp_path / "lost", {}, source.root, source.recognizer, manifest={"score": "cosine"}) as writer:
        writer.append(source.templates(), source.rows().to_pylist(), [], 30)
        writer.finish(failures)
    everybody = people_file(tmp_path / "all.txt", [*(f"P{k}" for k in range(6)), "Lost"])
    study = derived_study(Store.open(tmp_path / "lost"), SubjectSplit(everybody), "rotation")
    steps = []
    protected = study.protect_apart(lambda done, total: steps.append((done, total)))
    assert steps[-1] == (6, 6)
    assert (~protected.any(axis=1)).tolist() == study.test.images.missing.tolist()


def test_what_does_not_fit_is_refused_before_the_work(tiny_store, tiny, groups, monkeypatch):
    study = derived_study(Store.open(tiny_store), groups, "rotation")
    monkeypatch.setattr("facedecode.memory.available_bytes", lambda: 1_000_000)
    with pytest.raises(WouldNotFit, match="a ridge decoder of 16 numbers, and 9 portraits of 128 px"):
        evaluate_protection(study, Settings(fmrs=(0.1,)), load_recognizer("tiny", tiny))


def test_images_without_a_template_match_nothing_and_link_nothing(tiny_store, tiny, groups, tmp_path):
    source = Store.open(tiny_store)
    manifest = {"score": source.score, "transform": None, "precision": "fp32", "l2_normalized": False}
    failures = [{"path": "P0/P0_0009.png", "stage": "detect", "reason": "no face found"}]
    with StoreWriter(tmp_path / "lost", {}, source.root, source.recognizer, manifest=manifest) as writer:
        writer.append(source.templates(), source.rows().to_pylist(), [], 30)
        writer.finish(failures)
    _, whole = evaluated(tiny_store, groups, tiny, "biohash")
    _, lost = evaluated(tmp_path / "lost", groups, tiny, "biohash")
    for name, figures in lost.accuracy.items():
        for before, after in zip(whole.accuracy[name].tar["pairs"], figures.tar["pairs"], strict=True):
            assert (before.n, after.n) == (18, 21)
            assert after.accepted <= before.accepted
    assert lost.linkage["own", "same-image"].mated == whole.linkage["own", "same-image"].mated
    assert lost.inversion.rates["known"]["system"].type_one["pairs"][0].n == 19


# The command


@pytest.fixture
def options(tiny_store, tiny, groups) -> list:
    return [
        *(tiny_store, "--people", groups.people, "--train-people", groups.train_people, "--exclude", "P9"),
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
    for field, said in [
        ("training_people", "recognizer tiny: trained on"),
        ("fitted_on", "mapping of these templates"),
    ]:
        store = Store.open(tiny_store)
        store.manifest = replace(store.manifest, mapping={"undoes": "rotate30"})
        (store.recognizer if field == "training_people" else store.manifest)[field] = ["P5", "P6"]
        with pytest.raises(BadInput, match=rf"{said}.* 1 of the 6 people .*\(P5\)"):
            derived_study(store, groups, "rotation")


def test_without_training_people_nothing_is_inverted(tiny_store, groups):
    result = call(
        tiny_store, "--scheme", "rotation", "--people", groups.people, "--fmr", "0.1", "--repetitions", "100", "--json"
    )
    assert result.exit_code == 0, result.output
    assert "inversion" not in json.loads(result.stdout)["metrics"]
    assert "No decoder was trained" in result.stderr


@pytest.mark.parametrize(
    "option", [("--attacker", "nearest"), ("--image-size", "64"), ("--images", "."), ("--weights", "tiny=.")]
)
def test_options_of_an_attacker_need_one(tiny_store, groups, option):
    result = call(tiny_store, "--scheme", "rotation", "--people", groups.people, *option)
    refused(result, 2, f"{option[0]} is for an attacker's pictures")


def test_equal_runs_give_equal_numbers(options):
    first, second = (call(*options, "--scheme", "rotation", "--json").stdout for _ in range(2))
    assert json.loads(first) == json.loads(second)
    other = call(*options, "--scheme", "rotation", "--json", "--seed", "1").stdout
    assert json.loads(other)["metrics"]["linkability"] != json.loads(first)["metrics"]["linkability"]


def refused(result: Result, code: int, said: str) -> None:
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
        (["--scheme", "rotation", "--attacker", "dfd"], 2, "--attacker dfd: use ridge or nearest"),
        (["--scheme", "rotation", "--fail-if", "psnr < 1"], 2, "no figure 'psnr'"),
        (["--scheme", "biohash", "--fail-if", "linkability[length,same-image] > 1"], 2, "no figure 'linkability[len"),
        (["--scheme", "rotation", "--no-center"], 2, "a rotation has no center"),
        (["--scheme", "rotation", "--keys", "2"], 4, "36 mated comparisons across keys, and linkability needs 100"),
        (["--scheme", "rotation", "--images", "."], 4, "say where they are with --images"),
        (["--scheme", "rotation", "--exclude", "Nobody"], 4, "nobody among the training people"),
        ([], 2, "give stores under two keys, or --scheme"),
        (["--no-center"], 2, "go with --scheme"),
    ],
)
def test_one_line_for_each_mistake(options, more, code, said):
    refused(call(*options, *more), code, said)


def test_people_are_judged_or_trained_on(tiny_store, tiny, groups):
    result = call(tiny_store, "--scheme", "rotation", "--people", groups.people, "--train-people", groups.people)
    refused(result, 4, "6 people are judged and trained on (P0, P1, P2, …)")
    result = call(tiny_store, "--scheme", "rotation", "--train-people", groups.train_people)
    refused(result, 4, "4 people are judged and trained on")
    refused(
        call(tiny_store, "--scheme", "biohash", "--people", groups.people), 2, "give --train-people, or --no-center"
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
