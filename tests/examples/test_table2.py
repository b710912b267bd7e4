"""`examples/table2.py`: a cell against loops, nobody is fitted on and judged, what is kept between runs, bad input."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import jsonschema
import numpy as np
import pytest
from conftest import draw_people
from rates import tar_at_fmr

from facedecode.annotations.pairs import read_pairs
from facedecode.annotations.protocols import read_people
from facedecode.errors import BadInput, FacedecodeError, UsageError
from facedecode.pictures.images import load_image
from facedecode.pictures.perturb import parse_transform, perturb
from facedecode.recognizers import load_recognizer
from facedecode.recognizers.recognizer import Recognizer
from facedecode.statistics.bootstrap import Estimate
from facedecode.statistics.scores import score_pairs
from facedecode.statistics.verification import FoldSplit, person_weights
from facedecode.store import Store
from facedecode.store.images import row_face

SETS, EACH = 4, 9  # people P0 to P35, of three images each


def members(number: int) -> list[str]:
    return [f"P{k}" for k in range(number * EACH, (number + 1) * EACH)]


def protocol(folder: Path) -> None:
    """pairs.txt: in each fold the 27 mated pairs of its people, and 27 non-mated ones; people.txt: the sets."""
    pairs, people = [f"{SETS}\t{3 * EACH}"], [f"{SETS}"]
    for number in range(SETS):
        own = members(number)
        pairs += [f"{name}\t{a}\t{b}" for name in own for a, b in itertools.combinations((1, 2, 3), 2)]
        others = list(itertools.combinations(own, 2))[: 3 * EACH]
        pairs += [f"{a}\t{1 + k % 3}\t{b}\t{1 + (k + 1) % 3}" for k, (a, b) in enumerate(others)]
        people += [str(len(own)), *(f"{name}\t3" for name in own)]
    (folder / "pairs.txt").write_text("\n".join(pairs) + "\n")
    (folder / "people.txt").write_text("\n".join(people) + "\n")


@pytest.fixture
def here(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the stores `one` (of `tiny`) and `two` (of `tiny-cosine`), pairs.txt and people.txt."""
    monkeypatch.chdir(tmp_path)
    for folder, name in (("one", "tiny"), ("two", "tiny-cosine")):
        draw_people(Path(folder), Path("faces"), name, tiny, people=SETS * EACH)
    protocol(tmp_path)
    return tmp_path


@pytest.fixture
def table2(script: Callable[[str], ModuleType], here: Path, tiny: Path, monkeypatch) -> Callable[..., dict]:
    """Runs `table2.py`: its report as JSON."""
    monkeypatch.setattr(script("table2_ceiling"), "FEATURES", 24)
    monkeypatch.setattr(script("table2"), "_SHARD", 40)

    def run(*more: object, stores: tuple[str, ...] = ("one",), output: str = "out") -> dict:
        names = {"one": "tiny", "two": "tiny-cosine"}
        given = [*stores, "--weights", *(f"{names[store]}={tiny}" for store in stores), "--pairs", "pairs.txt"]
        given += ["--people", "people.txt", "--work", "work", "--repetitions", 60, "-o", output, *more]
        script("table2").main([str(x) for x in given])
        return json.loads((here / output / "report.json").read_text())

    return run


FEW = ("--transforms", "rotate30")


def turned(store: Store, recognizer: Recognizer) -> np.ndarray:
    """Templates of each row's image turned by 30 degrees, one by one."""
    made = []
    for row in store.rows().to_pylist():
        face = row_face(row)
        picture = perturb(load_image(store.root / row["path"]), face, parse_transform("rotate30"))
        made.append(recognizer.embed_crops(recognizer.crop(picture, face)[None])[0])
    return np.stack(made)


def test_the_cells_are_those_of_loops(table2: Callable[..., dict], here: Path, tiny: Path) -> None:
    report = table2("--transforms", "rotate30", "scale0.5", stores=("one", "two"))
    jsonschema.validate(report, json.loads((here / "out" / "report.schema.json").read_text()))
    found = report["metrics"]["recognizers"]
    assert list(found) == ["tiny", "tiny-cosine"]
    for folder, name in (("one", "tiny"), ("two", "tiny-cosine")):
        store, kind = Store.open(folder), {"tiny": "negative-euclidean", "tiny-cosine": "cosine"}[name]
        original, perturbed = store.templates(), turned(store, load_recognizer(name, tiny))
        set_of, row_of = (
            {p.name: p.fold for p in read_people("people.txt")},
            {p: i for i, p in enumerate(store.paths())},
        )
        sets = np.array([set_of[person] for person in store.identities()])
        pairs = read_pairs("pairs.txt")
        scores: dict[str, list[float]] = {"original": [], "none": [], "linear": []}
        left_out, undone = {}, np.zeros(2)
        for number in range(SETS):
            rows = sets != number
            assert set(np.array(store.identities())[rows]).isdisjoint(members(number))
            inputs = np.column_stack([perturbed[rows], np.ones(rows.sum())]).astype(float)
            left_out[number] = np.linalg.lstsq(inputs, original[rows].astype(float), rcond=None)[0]
        for a, b, fold in zip(pairs.left, pairs.right, pairs.fold, strict=True):
            i, j = (row_of[path.replace(".jpg", ".png")] for path in (a, b))
            mapped = np.append(perturbed[j], 1) @ left_out[fold]
            for which, second in (("original", original[j]), ("none", perturbed[j]), ("linear", mapped)):
                scores[which].append(score_pairs(original[i][None], second[None].astype(np.float32), kind)[0])
        for i, number in enumerate(sets):
            mapped = np.append(perturbed[i], 1) @ left_out[number]
            undone += np.sum((original[i] - mapped) ** 2), np.sum((original[i] - perturbed[i]) ** 2)
        weights, expected = person_weights(np.array(pairs.left_people)[pairs.mated]), {}
        for which, values in scores.items():
            values = np.array(values)
            one = found[name]["listed"]["rows"]["original" if which == "original" else "rotate30"]
            one = one["none" if which == "original" else which]
            mated, others = values[pairs.mated], values[~pairs.mated]
            by_pair, by_person = tar_at_fmr(mated, others, 0.01), tar_at_fmr(mated, others, 0.01, weights)
            assert one["tar_at_far"]["0.01"]["value"] == pytest.approx(by_pair.tar, abs=1e-9)
            assert one["tar_at_far"]["0.01"]["threshold"] == pytest.approx(by_pair.threshold, abs=1e-4)
            assert one["tar_at_far_by_person"]["0.01"]["value"] == pytest.approx(by_person.tar, abs=1e-9)
            assert one["accuracy"]["value"] == pytest.approx(FoldSplit(values, pairs.mated, pairs.fold).accuracy().mean)
            expected[which] = by_person.tar
        differences = {(d["transform"], d["difference"]): d for d in found[name]["listed"]["differences"]}
        assert len(differences) == 6
        for what, other in (("mapped less unmapped", "none"), ("mapped less original", "original")):
            own = differences["rotate30", what]["tar_at_far_by_person"]["0.01"]
            assert own["value"] == pytest.approx(expected["linear"] - expected[other], abs=1e-9)
        share = found[name]["displacement_undone"]["rotate30"]["linear"]
        assert share["value"] == pytest.approx(1 - undone[0] / undone[1], rel=1e-4) and share["n"] == SETS * EACH
    said = " ".join(report["warnings"] + report["protocol"])
    assert "every threshold rests on 1 false accept" in said and "trial run" not in said
    assert {path.name for path in Path("out/figures").iterdir()} == {
        f"roc-{name}-{pairing}.svg" for name in ("tiny", "tiny-cosine") for pairing in ("listed", "sets")
    }


def test_all_pairs_within_sets_are_those_of_loops(table2: Callable[..., dict], here: Path, tiny: Path) -> None:
    found = table2(*FEW)["metrics"]["recognizers"]["tiny"]["sets"]
    store = Store.open("one")
    original, perturbed = store.templates(), turned(store, load_recognizer("tiny", tiny))
    set_of, people = {p.name: p.fold for p in read_people("people.txt")}, store.identities()
    for which, seconds in (("original", original), ("rotate30", perturbed)):
        mated, others, whose = [], [], []
        for i, j in itertools.permutations(range(len(people)), 2):
            if set_of[people[i]] != set_of[people[j]]:
                continue
            score = score_pairs(original[i][None], seconds[j][None], "negative-euclidean")[0]
            (mated if people[i] == people[j] else others).append(score)
            if people[i] == people[j]:
                whose.append(people[i])
        one = found["rows"][which]["none"]
        assert one["counts"]["mated"] == len(mated) and one["counts"]["non_mated"] == len(others)
        for fmr in (0.01, 0.001):
            by_pair = tar_at_fmr(np.array(mated), np.array(others), fmr)
            by_person = tar_at_fmr(np.array(mated), np.array(others), fmr, person_weights(np.array(whose)))
            assert one["tar_at_far"][f"{fmr:g}"]["value"] == pytest.approx(by_pair.tar, abs=1e-9)
            assert one["tar_at_far"][f"{fmr:g}"]["threshold"] == pytest.approx(by_pair.threshold, abs=1e-4)
            assert one["tar_at_far_by_person"][f"{fmr:g}"]["value"] == pytest.approx(by_person.tar, abs=1e-9)
    assert len(found["differences"]) == 3 and "accuracy" not in found["rows"]["original"]["none"]


def test_within_sets_an_image_without_a_template_matches_nothing_and_a_copy_is_no_pair(
    script: Callable[[str], ModuleType], here: Path
) -> None:
    module, store = script("table2_sets"), Store.open("one")
    paths, people = store.paths(), store.identities()
    images, set_of = dict(zip(paths, people, strict=True)), dict.fromkeys(people, 0)
    lost = paths[4]
    images["P0/lost.png"] = "P0"
    kept = [i for i, path in enumerate(paths) if path != lost]

    class Probes:
        def paths(self) -> list[str]:
            return [paths[i] for i in kept]

        def templates(self) -> np.ndarray:
            return store.templates()[kept]

    compared = module.compare_within_sets(store, Probes(), images, set_of, [0])
    n, counts = len(images), np.bincount(np.unique(list(images.values()), return_inverse=True)[1])
    assert len(compared.mated.scores) == int((counts * (counts - 1)).sum())
    assert len(compared.non_mated.scores) == n * n - int((counts**2).sum())
    # Of the lost image's row and column (it has neither), and the column of the one that is no probe.
    same = {name: int((np.array(list(images.values())) == name).sum()) for name in ("P0", images[lost])}
    assert int((compared.mated.scores == -np.inf).sum()) == 2 * (same["P0"] - 1) + same[images[lost]] - 1
    assert int(compared.missing.sum()) == 3

    class Twins:
        """The store, its second picture being the first one again."""

        manifest, paths, templates, score = store.manifest, store.paths, store.templates, store.score

        def rows(self):
            table = store.rows()
            digests = table["sha256"].to_pylist()
            digests[1] = digests[0]
            return table.set_column(table.schema.get_field_index("sha256"), "sha256", [digests])

    assert people[0] == people[1]
    fewer = module.compare_within_sets(Twins(), Probes(), images, set_of, [0])
    assert len(fewer.mated.scores) == len(compared.mated.scores) - 2


class Memory:
    """A map that knows the very templates that it was fitted to, and nothing else."""

    def __init__(self, perturbed: np.ndarray, original: np.ndarray) -> None:
        self._known = {row.tobytes(): answer for row, answer in zip(perturbed, original, strict=True)}
        self._nothing = np.zeros_like(original[0])

    def apply(self, templates: np.ndarray) -> np.ndarray:
        return np.stack([self._known.get(row.tobytes(), self._nothing) for row in templates])


def test_nobody_of_the_judged_fold_is_fitted_on(
    script: Callable[[str], ModuleType], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = script("table2")
    monkeypatch.setattr(script("table2_ceiling"), "FEATURES", 24)
    pairs, set_of = module.read_protocol(Path("pairs.txt"), Path("people.txt"))
    store = Store.open("one")
    original, generator = store.templates(), np.random.default_rng(0)
    perturbed = generator.normal(size=original.shape).astype(np.float32)
    people = store.identities()
    data = module.Data(original, perturbed, store.paths(), people, np.array([set_of[name] for name in people]))
    fitted: list[set[str]] = []

    def fit(inputs: np.ndarray, outputs: np.ndarray, whose: list[str]) -> Memory:
        assert len(inputs) == len(outputs) == len(whose)
        fitted.append(set(whose))
        return Memory(inputs, outputs)

    mapped, maps = module.cross_fit(data, range(SETS), fit)
    for number, names in enumerate(fitted):
        folds = [(pairs.left_people[i], pairs.right_people[i]) for i in np.flatnonzero(pairs.fold == number)]
        assert names.isdisjoint(name for both in folds for name in both) and len(names) == (SETS - 1) * EACH
    # Had a map seen a single image of those that it is applied to, it would give its original back.
    assert not mapped.any() and len(maps) == SETS
    assert Memory(perturbed, original).apply(perturbed).any()
    some, _ = module.cross_fit(data, [2], fit)
    assert (np.isnan(some).all(axis=1) == (data.sets != 2)).all()
    for fold_fit in (module.linear(parse_transform("rotate30"), store), module.ceiling(0)):
        # Whatever the judged people's own templates are, the map is the same.
        changed = module.Data(np.where((data.sets == 1)[:, None], 9, original), *list(vars(data).values())[1:])
        one, other = (module.cross_fit(x, [1], fold_fit)[0][data.sets == 1] for x in (data, changed))
        np.testing.assert_array_equal(one, other)


def test_somebody_in_another_set_is_refused(table2: Callable[..., dict], here: Path) -> None:
    text = (here / "people.txt").read_text().replace("P3\t", "Q3\t").replace("P12\t", "P3\t").replace("Q3\t", "P12\t")
    (here / "people.txt").write_text(text)
    with pytest.raises(BadInput, match=r"2 people of pairs\.txt are not in the set of their fold \(P12, P3\)"):
        table2(*FEW)


def test_whom_a_recognizer_was_trained_on_is_not_judged(table2: Callable[..., dict], here: Path) -> None:
    manifest = json.loads((here / "one/manifest.json").read_text())
    manifest["recognizer"]["training_people"] = ["P3"]
    (here / "one/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BadInput, match=r"recognizer tiny: trained on 1 of the 36 people .* \(P3\)"):
        table2(*FEW)


def test_a_killed_run_goes_on(
    table2: Callable[..., dict], script: Callable[[str], ModuleType], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, embedded = script("table2"), []
    embed = module.embed_perturbed

    def killed(rows: list[dict], *rest: object, **more: object):
        if embedded:
            raise KeyboardInterrupt
        embedded.extend(rows)
        return embed(rows, *rest, **more)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "embed_perturbed", killed)
        table2(*FEW)
    (folder,) = (here / "work").iterdir()
    assert folder.name.startswith("tiny-rotate30-") and not (folder / "manifest.json").exists()
    first = table2(*FEW)
    assert Store.open(folder).manifest.transform == "rotate30"
    whole = table2(*FEW, "--work", "anew", output="anew-out")
    for path in folder.iterdir():
        assert path.read_bytes() == (here / "anew" / folder.name / path.name).read_bytes(), path.name
    assert whole["metrics"] == first["metrics"]
    monkeypatch.setattr(module, "embed_perturbed", None)
    assert table2(*FEW, output="again")["metrics"] == first["metrics"]


def test_a_trial_says_so(table2: Callable[..., dict]) -> None:
    report = table2(*FEW, "--limit-folds", 1, "--limit", 60)
    said = " ".join(report["warnings"])
    assert "1 of 4 folds were judged: a trial run, not a result" in said
    assert "images were left out of the fits: a trial run" in said
    rows = report["metrics"]["recognizers"]["tiny"]["listed"]["rows"]
    assert rows["original"]["none"]["counts"]["mated"] == 3 * EACH and "accuracy" not in rows["original"]["none"]
    assert rows["rotate30"]["linear"]["tar_at_far"] == {}  # 27 non-mated pairs resolve no rate


@pytest.mark.parametrize(
    ("more", "error", "said"),
    [
        (["--transforms", "rotate200"], UsageError, "unknown transform 'rotate200': choose one of rotate30"),
        (["--transforms", "+".join(["shift-left"] * 20)], BadInput, "no face stays in the frame"),
        (["--people", "nobody.txt"], BadInput, r"nobody\.txt: no such file"),
        (["--weights", "vgg=x"], UsageError, "--weights vgg: no store is of that recognizer"),
    ],
)
def test_what_cannot_be_is_refused(
    table2: Callable[..., dict], more: list[str], error: type[FacedecodeError], said: str
) -> None:
    with pytest.raises(error, match=said):
        table2(*more)


@pytest.mark.parametrize(
    ("low", "high", "helps", "stays"),
    [
        (0.1, 0.3, "yes", "no"),
        (-0.3, -0.1, "no", "yes"),
        (-0.1, 0.3, "not decided", "yes"),
        (0.0, 0.3, "not decided", "yes"),
        (None, None, "not decided", "not decided"),
    ],
)
def test_verdicts(script: Callable[[str], ModuleType], low, high, helps, stays) -> None:
    module, difference = script("table2_report"), Estimate(0.1, low, high, 9)
    assert (module.beats(difference), module.does_not_exceed(difference)) == (helps, stays)


def test_the_ceiling_bends_and_is_the_line_where_there_is_nothing_to_bend(
    script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, generator = script("table2_ceiling"), np.random.default_rng(1)
    monkeypatch.setattr(module, "FEATURES", 200)
    perturbed = generator.normal(size=(1200, 4)).astype(np.float32)
    people = [f"person {k // 2}" for k in range(1200)]
    weight = generator.normal(size=(4, 4))
    new = generator.normal(size=(300, 4)).astype(np.float32)
    straight = module.fit_ceiling(perturbed, (perturbed @ weight + 1).astype(np.float32), people)
    np.testing.assert_allclose(straight.apply(new), new @ weight + 1, atol=1e-3)
    noise = 0.1 * generator.normal(size=perturbed.shape)
    bent = module.fit_ceiling(perturbed, (np.sin(2 * perturbed) @ weight + noise).astype(np.float32), people)
    truth = np.sin(2 * new) @ weight
    line = np.linalg.lstsq(np.column_stack([perturbed, np.ones(1200)]), np.sin(2 * perturbed) @ weight, rcond=None)[0]
    errors = [np.mean((truth - x) ** 2) for x in (bent.apply(new), np.column_stack([new, np.ones(300)]) @ line)]
    assert errors[0] < errors[1] / 2
    again = module.fit_ceiling(perturbed, (np.sin(2 * perturbed) @ weight + noise).astype(np.float32), people)
    np.testing.assert_array_equal(again.weight, bent.weight)
    with pytest.raises(BadInput, match="nobody is held out"):
        module.fit_ceiling(perturbed, perturbed, ["a"] * 1200)
