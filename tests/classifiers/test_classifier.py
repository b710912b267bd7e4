"""The identity classifier: scikit-learn as the oracle, who is held out, files and refusals, and the command."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner, Result

from facedecode.classifiers.classes import choose_images, held_out_images
from facedecode.classifiers.classifier import Classifier, load_classifier
from facedecode.classifiers.fit import MIN_IMAGES, fit_classifier, parse_names
from facedecode.classifiers.softmax import L2, SCALE, Head, fit_softmax
from facedecode.cli import app
from facedecode.errors import BadInput, FacedecodeError, FacedecodeWarning, UsageError
from facedecode.identity import RecognizerId
from facedecode.recognizers.recognizer import Recognizer
from facedecode.store import Store, StoreWriter

TINY = RecognizerId("tiny", "ab" * 32, dim=6)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def answer(done: Result) -> dict:
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def people(count: int = 5, each: int = 24, dim: int = 6, spread: float = 0.6) -> tuple[np.ndarray, list[str]]:
    """Templates about one point per person, off the origin and of small scale, as those of a recognizer are."""
    rng = np.random.default_rng(4)
    centers = np.random.default_rng(5).normal(size=(count, dim))
    codes = np.repeat(np.arange(count), each)[: count * each - 7]  # classes of different sizes
    templates = 0.5 + 0.1 * (centers[codes] + spread * rng.normal(size=(len(codes), dim)))
    order = rng.permutation(len(codes))
    return templates[order].astype(np.float32), [f"P{k}" for k in codes[order]]


def fitted(head: Head | None = None, spread: float = 0.6, **more: object) -> Classifier:
    templates, names = people(spread=spread)
    held_out = held_out_images(names, [f"{k}.png" for k in range(len(names))])
    return fit_classifier(templates, names, held_out, TINY, head=head, **more)


def example(**more: object) -> Classifier:
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(3, 6)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    return Classifier(weight, bias, ("Ann", "Bob", "Cid"), recognizer=TINY, **more)


# ---------------------------------------------------------------- the fit


@pytest.mark.parametrize("l2", [1e-1, 1e-3])
def test_a_linear_head_has_the_logits_of_scikit_learn(l2: float) -> None:
    templates, names = people(spread=1.5)
    classifier = fit_classifier(templates, names, np.zeros(len(names), bool), TINY, head=Head(l2=l2))
    x = templates.astype(np.float64)
    x = (x - x.mean(0)) / np.sqrt(x.var(0).mean())
    oracle = LogisticRegression(C=1 / (l2 * len(x)), tol=1e-10, max_iter=5000).fit(x, names)
    assert list(oracle.classes_) == list(classifier.names)
    found = classifier.logits(torch.from_numpy(templates.astype(np.float64))).numpy()
    # The bias is folded into float32, and templates lie off the origin.
    np.testing.assert_allclose(found, oracle.decision_function(x), atol=1e-4)
    report = classifier.report
    assert report["training_accuracy"]["value"] == oracle.score(x, names) < 1
    assert report["converged"] and report["gradient"] <= 1e-8
    assert (report["held_out_images"], report["accuracy"], report["held_out_loss"]) == (0, None, None)


def test_a_cosine_head_is_at_a_minimum() -> None:
    templates, names = people(spread=1.5)
    x, codes = templates.astype(np.float64), np.array([int(name[1:]) for name in names])
    solved = fit_softmax(x, codes, Head("cosine", scale=30.0))
    assert solved.converged and not solved.bias.any()
    np.testing.assert_allclose(np.linalg.norm(solved.weight, axis=1), 1)

    def loss(weight: np.ndarray) -> float:
        weight = weight / np.linalg.norm(weight, axis=1, keepdims=True)
        logits = 30 * x / np.linalg.norm(x, axis=1, keepdims=True) @ weight.T
        return float(torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(codes)))

    assert loss(solved.weight) == pytest.approx(solved.loss)
    rng = np.random.default_rng(1)
    assert all(loss(solved.weight + 1e-3 * rng.normal(size=solved.weight.shape)) > solved.loss for _ in range(20))


@pytest.mark.parametrize("head", [Head(), Head("cosine")])
def test_people_apart_are_told_apart(head: Head) -> None:
    report = fitted(head, spread=0.05).report
    assert report["accuracy"]["value"] == report["training_accuracy"]["value"] == 1
    assert report["accuracy"]["low"] < 1 and report["accuracy_person_weighted"]["n"] == 5
    assert report["chance"] == pytest.approx(0.2) and report["classes"] == 5
    assert report["accuracy"]["n"] == report["held_out_images"] == 23
    assert report["largest_class"]["share"] == pytest.approx(5 / 23)
    assert 0 < report["training_loss"] < 0.1 and report["iterations"] > 3


def test_the_same_data_give_the_same_classifier_in_whatever_order() -> None:
    templates, names = people()
    held_out = np.zeros(len(names), bool)
    one = fit_classifier(templates, names, held_out, TINY)
    np.testing.assert_array_equal(one.weight, fit_classifier(templates, names, held_out, TINY).weight)
    other = fit_classifier(templates[::-1], names[::-1], held_out, TINY)
    x = torch.from_numpy(templates)
    np.testing.assert_allclose(one.logits(x), other.logits(x), atol=1e-3)


def test_what_is_held_out_changes_nothing() -> None:
    templates, names = people()
    held_out = held_out_images(names, [str(k) for k in range(len(names))])
    other = np.where(held_out[:, None], np.float32(7), templates)
    one, two = (fit_classifier(x, names, held_out, TINY) for x in (templates, other))
    np.testing.assert_array_equal(one.weight, two.weight)
    assert one.report["accuracy"]["value"] > two.report["accuracy"]["value"]


def test_a_fit_that_stops_early_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facedecode.classifiers.softmax._ITERATIONS", 1)
    monkeypatch.setattr("facedecode.classifiers.softmax._AT_ONCE", 1)
    with pytest.warns(FacedecodeWarning, match="has not converged"):
        assert not fitted().report["converged"]


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: Head("mlp"), UsageError, "no head is called 'mlp'"),
        (lambda: Head(l2=0), UsageError, "an L2 penalty of 0"),
        (lambda: Head(l2=float("nan")), UsageError, "an L2 penalty of nan"),
        (lambda: Head(l2=1e30), UsageError, "an L2 penalty of 1e+30"),
        (lambda: Head("cosine", l2=1e-3), UsageError, "no L2 penalty"),
        (lambda: Head("cosine", scale=-1), UsageError, "a scale of -1"),
        (lambda: Head(scale=3), UsageError, "a linear head has no scale"),
        (lambda: fit_classifier(np.full((4, 6), np.nan), list("aabb"), np.zeros(4), TINY), BadInput, "NaN or inf"),
        (lambda: fit_classifier(np.ones((4, 6)), list("aabb"), np.zeros(4), TINY), BadInput, "all equal"),
        (lambda: fit_classifier(np.eye(4, 6), list("aab"), np.zeros(4), TINY), BadInput, "3 names and 4 flags"),
        (lambda: fit_classifier(np.eye(4, 6), list("aaaa"), np.zeros(4), TINY), BadInput, "a is alone"),
        (lambda: fit_classifier(np.eye(4, 6), list("aabb"), [0, 0, 1, 1], TINY), BadInput, "b has no image to train"),
        (lambda: fit_classifier(np.eye(4, 6), ["a", "a", "b", None], np.zeros(4), TINY), BadInput, "no identity"),
        (lambda: fit_classifier(np.eye(4), list("aabb"), np.zeros(4), TINY), BadInput, "whose templates have 6"),
    ],
)
def test_what_cannot_be_fitted(make: Callable, error: type[FacedecodeError], said: str) -> None:
    with pytest.raises(error, match=said.replace("+", r"\+")):
        make()


def test_a_fifth_of_each_person_is_held_out_by_path() -> None:
    names = ["A"] * 10 + ["B"] * 2 + ["C"] * 13
    paths = [f"{name}/{k}.png" for k, name in enumerate(names)]
    held_out = held_out_images(names, paths)
    assert [int(held_out[np.array(names) == name].sum()) for name in "ABC"] == [2, 1, 3]
    kept = {paths[k] for k in np.flatnonzero(held_out) if names[k] == "C"}
    whole = held_out_images(["C"] * 13, paths[12:][::-1])
    assert {p for p, out in zip(paths[12:][::-1], whole, strict=True) if out} == kept
    # Of fewer images those that are held out were held out before.
    fewer = held_out_images(["C"] * 8, paths[12:20])
    assert fewer.sum() == 2 and {p for p, out in zip(paths[12:20], fewer, strict=True) if out} >= kept & {*paths[12:20]}


# ---------------------------------------------------------------- logits


def test_logits_are_what_the_class_says() -> None:
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    linear, cosine = example(), Classifier.from_linear(example().weight, None, ["Ann", "Bob", "Cid"], TINY, scale=8)
    weight, bias = torch.tensor(linear.weight).double(), torch.tensor(linear.bias).double()
    torch.testing.assert_close(linear.logits(x), x @ weight.T + bias)
    unit = x / x.norm(dim=1, keepdim=True)
    torch.testing.assert_close(example(normalized=True).logits(x), unit @ weight.T + bias)
    expected = 8 * torch.nn.functional.cosine_similarity(x[:, None], weight, dim=2)
    torch.testing.assert_close(cosine.logits(x), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(cosine.logits(5 * x), cosine.logits(x))
    assert linear.logits(x.half()).dtype == linear.logits(x.float()).dtype == torch.float32
    assert (linear.head, cosine.head, linear.dim, len(linear)) == ("linear", "cosine", 6, 3)
    np.testing.assert_array_equal(linear.predict(x.numpy()), linear.logits(x).argmax(1))
    for wrong in (torch.zeros(6), torch.zeros(2, 5)):
        with pytest.raises(BadInput, match=r"takes templates \(n, 6\)"):
            linear.logits(wrong)


@pytest.mark.parametrize("scale", [None, 4.0])
def test_gradients_reach_templates(scale: float | None) -> None:
    classifier = Classifier.from_linear(example().weight, None, ["Ann", "Bob", "Cid"], TINY, scale=scale)
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(classifier.logits, x)


def test_gradients_reach_pixels(recognizer: Recognizer) -> None:
    weight = np.random.default_rng(0).normal(size=(3, 16))
    classifier = Classifier.from_linear(weight, np.zeros(3), list("abc"), recognizer.describe())
    classifier.require_recognizer(recognizer.describe())
    crops = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2), requires_grad=True)
    torch.nn.functional.cross_entropy(classifier.logits(recognizer.embed(crops)), torch.tensor([0, 2])).backward()
    assert crops.grad.abs().sum(dim=(1, 2, 3)).min() > 0


def test_a_layer_of_ones_own_keeps_its_names() -> None:
    layer = torch.nn.Linear(6, 3)
    classifier = Classifier.from_linear(layer.weight, layer.bias, ["zoe", "ann", "bob"], TINY)
    assert classifier.names == ("ann", "bob", "zoe") and not classifier.normalized
    x = torch.randn(5, 6)
    torch.testing.assert_close(classifier.logits(x), layer(x)[:, [1, 2, 0]].detach())


def test_an_unknown_name_gets_near_ones() -> None:
    classifier = example()
    assert classifier.index("Bob") == 1
    with pytest.raises(UsageError, match=r"no class 'Rob'; there are Ann, Bob, Cid$"):
        classifier.index("Rob")
    names = sorted([f"Person_{k:02}" for k in range(30)] + ["George_W_Bush"])
    many = Classifier.from_linear(np.ones((31, 6)), None, names, TINY)
    with pytest.raises(UsageError, match=r"names like it among its 31: George_W_Bush$"):
        many.index("george w bush")
    with pytest.raises(UsageError, match=r"it has 31: George_W_Bush, Person_00, .*, …"):
        many.index("xyz")


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("head", [Head(), Head("cosine", scale=8)])
def test_a_saved_classifier_is_the_same(tmp_path: Path, head: Head) -> None:
    classifier = fitted(head, provenance={"store": "ef"})
    path, again = tmp_path / "c.safetensors", tmp_path / "d.safetensors"
    classifier.save(path)
    loaded = load_classifier(path)
    loaded.save(again)
    assert path.read_bytes() == again.read_bytes() and loaded.source == path
    x = torch.from_numpy(people()[0])
    assert torch.equal(loaded.logits(x), classifier.logits(x))
    assert (loaded.names, loaded.report, loaded.scale) == (classifier.names, classifier.report, head.scale)
    with pytest.raises(BadInput, match=r"c\.safetensors: this classifier is for tiny .*abababab.*other"):
        loaded.require_recognizer(replace(TINY, name="other"))
    with pytest.raises(BadInput, match="cdcdcdcd"):
        loaded.require_recognizer(replace(TINY, weights_sha256="cd" * 32))


HEADER = {
    "names": ["Ann", "Bob", "Cid"],
    "scale": None,
    "normalized": False,
    "recognizer": TINY.as_json(),
    "report": {},
}


@pytest.mark.parametrize(
    ("changed", "tensors", "said"),
    [
        ({}, {"weight": np.full((3, 6), np.nan)}, "NaN or infinite"),
        ({}, {"bias": np.full(3, np.inf)}, "NaN or infinite"),
        ({}, {"bias": np.zeros(4)}, "make no classifier"),
        ({}, {"weight": np.zeros((3, 5))}, "templates have 6 numbers"),
        ({"names": ["Ann"]}, {}, "1 names make no classifier"),
        ({"names": ["Ann"]}, {"weight": np.ones((1, 6)), "bias": np.ones(1)}, "one class"),
        ({"names": ["Bob", "Ann", "Cid"]}, {}, "not sorted"),
        ({"names": ["Ann", "Ann", "Cid"]}, {}, "two classes are called 'Ann'"),
        ({"names": ["", "Ann", "Bob"]}, {}, "no name"),
        ({"names": ["Ann", "Bob", {}]}, {}, "field 'names.2' is not text"),
        ({"normalized": 1}, {}, "field 'normalized' is not true or false"),
        ({"scale": 3.0}, {}, "weights of length 1"),
        ({"scale": -1}, {}, "scale of -1"),
        ({"recognizer": {}}, {}, "field 'recognizer.name' is missing"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, changed: dict, tensors: dict, said: str) -> None:
    good, path = example(), tmp_path / "c.safetensors"
    all_tensors = {"weight": good.weight, "bias": good.bias} | tensors
    arrays = {name: np.asarray(values, np.float32) for name, values in all_tensors.items()}
    Classifier.KIND.write(path, HEADER | changed, arrays)
    with pytest.raises(BadInput) as caught:
        load_classifier(path)
    assert str(caught.value).startswith(f"{path}: ") and said in str(caught.value), said


def test_files_of_other_versions(tmp_path: Path) -> None:
    good, path = example(), tmp_path / "c.safetensors"
    tensors = {"weight": good.weight, "bias": good.bias}
    before = {key: HEADER[key] for key in ("names", "recognizer", "report")}
    before |= {"head": {"kind": "linear", "scale": None, "normalized": True}}
    replace(Classifier.KIND, version=1).write(path, before, tensors)
    assert load_classifier(path).normalized is True and load_classifier(path).scale is None
    replace(Classifier.KIND, version=1).write(path, {**before, "head": 5}, tensors)
    with pytest.raises(BadInput, match="malformed for its format version 1"):
        load_classifier(path)
    replace(Classifier.KIND, version=3).write(path, HEADER, tensors)
    with pytest.raises(BadInput, match="version 3, and this facedecode reads 2"):
        load_classifier(path)
    with pytest.raises(BadInput, match="gone: no such classifier; make one with 'facedecode train --kind classifier'"):
        load_classifier(tmp_path / "gone")


# ---------------------------------------------------------------- the command


@pytest.fixture
def here(tiny_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with `emb`: 30 faces of 10 people, in a store made by `tiny`."""
    monkeypatch.chdir(tiny_store.parent)
    return tiny_store.parent


def write(folder: str, change: Callable[[list[dict]], object] | None = None, **manifest: object) -> Path:
    """A store like `emb`, its rows or its manifest changed."""
    store = Store.open("emb")
    rows = store.rows().to_pylist()
    if change:
        change(rows)
    kept = {"score": "negative-euclidean", "precision": "fp32", "l2_normalized": False, **manifest}
    recognizer = kept.pop("recognizer", store.recognizer)
    with StoreWriter(folder, {"made": folder}, store.root, recognizer, manifest=kept) as writer:
        writer.append(store.templates(), rows, [], len(rows))
        writer.finish()
    return Path(folder)


def train(*more: object, store: object = "emb", output: str = "c.safetensors") -> list[object]:
    return ["train", store, "--kind", "classifier", "-o", output, *more, "--json"]


def test_the_command(here: Path) -> None:
    Path("people.txt").write_text("".join(f"P{k}\n" for k in range(8)))
    done = call(*train("--min-images", 3, "--people", "people.txt", "--exclude", "P3"))
    result = answer(done)
    metrics = result["metrics"]
    assert result["outputs"] == {"classifier": "c.safetensors"}
    assert (metrics["classes"], metrics["training_images"], metrics["held_out_images"]) == (7, 14, 7)
    assert metrics["accuracy"]["value"] == 1 and metrics["accuracy"]["n"] == 7
    assert "linear classifier of 7 people, trained on 14 images; accuracy 100.0%" in done.stderr
    classifier = load_classifier("c.safetensors")
    store = Store.open("emb")
    assert classifier.names == tuple(f"P{k}" for k in range(8) if k != 3)
    classifier.require_recognizer(store.recognizer)
    kept = classifier.report["provenance"]
    assert (kept["store"], kept["l2"], kept["min_images"]) == (store.fingerprint, L2, 3)
    trained, held_out = set(kept["training_images"]), set(kept["held_out_images"])
    assert (len(trained), len(held_out)) == (14, 7) and not trained & held_out
    assert "training_images" not in metrics["provenance"] and metrics["left_out"]["people"] == 0
    # The weights follow from the images that are named, and no others.
    rows = [i for i, path in enumerate(store.paths()) if path in trained]
    names = [store.identities()[i] for i in rows]
    again = fit_classifier(store.take(rows), names, np.zeros(14, bool), store.recognizer)
    x = torch.from_numpy(store.templates())
    torch.testing.assert_close(again.logits(x), classifier.logits(x), rtol=0, atol=1e-3)


def test_a_cosine_head_by_the_command(here: Path) -> None:
    metrics = answer(call(*train("--min-images", 3, "--head", "cosine", "--scale", 20)))["metrics"]
    assert metrics["provenance"]["scale"] == load_classifier("c.safetensors").scale == 20
    assert answer(call(*train("--min-images", 3, "--head", "cosine", output="d")))["metrics"]["converged"]
    assert load_classifier("d").scale == SCALE


def test_the_same_work_is_kept_and_another_is_refused(here: Path) -> None:
    first = answer(call(*train("--min-images", 3)))
    written = Path("c.safetensors").stat().st_mtime_ns
    assert answer(call(*train("--min-images", 3))) == first
    assert Path("c.safetensors").stat().st_mtime_ns == written
    done = call(*train("--min-images", 3, "--l2", 0.1))
    assert done.exit_code == 4 and "c.safetensors: holds a classifier of other data or settings" in done.stderr
    assert answer(call(*train("--min-images", 3, "--l2", 0.1, "--overwrite")))["metrics"]["provenance"]["l2"] == 0.1


def test_copies_of_an_image_count_once(here: Path) -> None:
    def copy(rows: list[dict]) -> None:
        rows[1]["sha256"] = rows[0]["sha256"]
        rows[2]["identity"] = None

    images = choose_images(Store.open(write("copies", copy)), None, (), 3)
    assert images.left_out == {"people": 1, "unnamed": 1, "copies": 1}
    assert "P0" not in images.names and len(images.rows) == 27


def test_a_head_from_elsewhere(here: Path, recognizer: Recognizer) -> None:
    answer(call(*train("--min-images", 3)))
    mine = load_classifier("c.safetensors")
    order = [3, 0, 2, 1, *range(4, 10)]
    save_file({"weight": mine.weight[order], "bias": mine.bias[order]}, "head.safetensors")
    Path("names.txt").write_text("".join(f"{mine.names[k]}\n" for k in order))
    given = ["--from-head", "head.safetensors", "--names", "names.txt"]
    metrics = answer(call(*train(*given, output="mine")))["metrics"]
    assert (metrics["classes"], metrics["images"]) == (10, 30) and metrics["accuracy"]["value"] == 1
    taken = load_classifier("mine")
    np.testing.assert_array_equal(taken.weight, mine.weight)
    assert taken.names == mine.names and taken.report["provenance"]["weights"]["name"] == "head.safetensors"
    assert answer(call(*train(*given, output="mine")))["metrics"] == metrics
    assert call(*train(*given, "--head", "cosine", output="mine")).exit_code == 4
    save_file({"weight": mine.weight}, "bare.safetensors")
    Path("strangers.txt").write_text("".join(f"n{k:06}\n" for k in range(10)))
    given = ["--from-head", "bare.safetensors", "--names", "strangers.txt", "--head", "cosine", "--scale", 30]
    done = call(*train(*given, output="cosine"))
    assert answer(done)["metrics"]["accuracy"] is None and "no image of its classes" in done.stderr
    assert load_classifier("cosine").scale == 30


def test_names_are_lines(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("\ufeff0000045\nAnn Lee\n\n", encoding="utf-8")  # CASIA-WebFace's are numbers
    assert parse_names(path, path.read_bytes()) == ["0000045", "Ann Lee"]
    for text, said in (("a\n\nb", "line 2: empty"), ("a\nb\na\n", "line 3: 'a' is there already"), ("", "line 1: em")):
        path.write_text(text)
        with pytest.raises(BadInput, match=f"names.txt, {said}"):
            parse_names(path, path.read_bytes())


def test_every_error_is_one_line_and_writes_nothing(here: Path) -> None:
    def anonymous(rows: list[dict]) -> None:
        for row in rows:
            row["identity"] = None

    def nowhere(rows: list[dict]) -> None:
        rows[4]["path"] = None

    write("anonymous", anonymous)
    write("nowhere", nowhere)
    for name, manifest in {
        "normalized": {"l2_normalized": True},
        "turned": {"transform": "rotate30"},
        "mapped": {"mapping": {"undoes": "rotate30"}},
        "protected": {
            "recognizer": replace(Store.open("emb").recognizer, protection={"scheme": "rotation", "key_id": "0" * 16})
        },
    }.items():
        write(name, **manifest)
    Path("one.txt").write_text("P1\n")
    Path("two.txt").write_text("a\nb\n")
    Path("file").write_text("mine")
    save_file({"kernel": np.ones((2, 16), np.float32)}, "kernel.st")
    save_file({"weight": np.ones((2, 16), np.int64)}, "whole.st")
    save_file({"weight": np.ones((2, 9), np.float32)}, "small.st")
    save_file({"weight": np.full((2, 16), np.nan, np.float32)}, "nan.st")
    save_file({"weight": np.ones((3, 16), np.float32)}, "three.st")
    before = sorted(here.rglob("*"))
    head = ["--names", "two.txt", "--from-head"]
    cases: list[tuple[list[object], int, str]] = [
        (train(), 4, "emb: of 10 people there are 0 with 10 or more, 0 with 5 or more, 10 with 2 or more (most"),
        (train("--min-images", 3, "--people", "one.txt"), 4, "of 1 people there are 1 with 3 or more, 1 with 2 or"),
        (train("--min-images", 3, "--people", "gone.txt"), 4, "gone.txt: no such file"),
        (train("--min-images", 3, "--exclude", "Q"), 4, "--exclude Q: nobody"),
        (train(store="gone"), 4, "gone: no such folder"),
        (train("--min-images", 3, store="anonymous"), 4, "anonymous: no template has a person"),
        (train("--min-images", 3, store="nowhere"), 4, "nowhere: has templates without an image"),
        (train(store="normalized"), 4, "normalized: templates that are normalized"),
        (train(store="turned"), 4, "turned: templates of perturbed faces"),
        (train(store="mapped"), 4, "mapped: templates that were mapped"),
        (train(store="protected"), 4, "protected: its templates are protected"),
        (train("--min-images", 3, output="emb"), 4, "emb: it is a folder"),
        (train("--min-images", 3, output="file"), 4, "file: not a readable safetensors file"),
        (train("--min-images", 3, output="file/c"), 4, "file"),
        (train("--head", "mlp"), 2, "no head is called 'mlp'"),
        (train("--l2", 0), 2, "an L2 penalty of 0"),
        (train("--l2", "nan"), 2, "--l2 nan: give a finite number"),
        (train("--scale", 3), 2, "a linear head has no scale"),
        (train("--head", "cosine", "--l2", 1), 2, "a cosine head has no L2"),
        (train("--epochs", 5), 2, "--epochs does not go with --kind classifier"),
        (train("--no-mirror"), 2, "--mirror does not go with --kind classifier"),
        (train("--device", "cpu"), 2, "--device does not go with --kind classifier"),
        (train("--names", "two.txt"), 2, "--names does not go with --kind classifier without --from-head"),
        (
            ["train", "emb", "-o", "new", "--min-images", "10", "--json"],
            2,
            "--min-images does not go with --arch",
        ),
        (
            ["train", "emb", "-o", "new", "--kind", "gan", "--json"],
            2,
            "--kind gan: use decoder, recognizer, classifier or disentangler",
        ),
        (train("--from-head", "three.st"), 2, "--from-head needs --names"),
        (train(*head, "three.st", "--people", "two.txt"), 2, "--people does not go with --from-head"),
        (train(*head, "gone.st"), 4, "gone.st: no such file"),
        (train(*head, "file"), 4, "file: not a readable safetensors file"),
        (train(*head, "kernel.st"), 4, "kernel.st: has no tensor 'weight' (it has kernel)"),
        (train(*head, "whole.st"), 4, "whole.st: 'weight' is torch.int64 (2, 16), not floats"),
        (train(*head, "small.st"), 4, "small.st: a weight (classes, 9) cannot be for tiny"),
        (train(*head, "nan.st"), 4, "nan.st: the classifier has NaN or infinite weights"),
        (
            train(*head, "nan.st", "--head", "cosine"),
            4,
            "nan.st: a class of the cosine head has a weight of zeros or N",
        ),
        (train(*head, "three.st"), 4, "two.txt: 2 names, and three.st has 3 classes"),
        (train("--from-head", "three.st", "--names", "gone.txt"), 4, "gone.txt: no such file"),
    ]
    for arguments, code, says in cases:
        done = call(*arguments)
        told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert done.exit_code == code and len(told) == 1 and says in told[0], (says, done.stderr)
        assert json.loads(done.stdout)["ok"] is False
        assert sorted(here.rglob("*")) == before, says


def test_help_imports_no_torch_and_defaults_are_the_librarys() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from facedecode.cli import app; "
        "done = CliRunner().invoke(app, ['train', '--help'], env={'COLUMNS': '200'}); assert done.exit_code == 0; "
        "assert 'torch' not in sys.modules; print(done.stdout)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "--from-head" in shown and f"{L2:g} if absent" in shown and f"{SCALE:g} if absent" in shown
    assert re.search(rf"--min-images.*?\[default:\W+{MIN_IMAGES}; at least 2\]", shown, re.DOTALL)
