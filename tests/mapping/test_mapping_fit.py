"""Maps from stores: embedded anew, joined by path, merged from sums; what is kept, and what is refused."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_people
from safetensors import safe_open
from safetensors.numpy import save_file
from typer.testing import CliRunner, Result

from facedecode.annotations.protocols import held_out_people
from facedecode.cli import app
from facedecode.errors import BadInput
from facedecode.identity import RecognizerId
from facedecode.mapping.fit import Reembedded, _choose, sum_store
from facedecode.mapping.jobs import Method
from facedecode.mapping.maps import fit_mapping, load_mapping, solve_mapping
from facedecode.mapping.sums import MappingSums, load_sums
from facedecode.pictures.perturb import parse_transform, transform_names
from facedecode.recognizers import load_recognizer
from facedecode.store import Store, StoreWriter
from facedecode.store.images import embed_perturbed
from facedecode.store.join import join_perturbed

TINY = RecognizerId("tiny", "ab" * 32, score="cosine")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def answer(done: Result) -> dict:
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def here(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with `emb`, 93 faces of 31 people (of whom 3 are held out), and lists of them in two parts."""
    monkeypatch.chdir(tmp_path)
    draw_people(Path("emb"), Path("faces"), "tiny", tiny, people=31)
    for half, people in (("first", range(25)), ("second", range(25, 31))):
        Path(f"{half}.txt").write_text("".join(f"P{k}\n" for k in people))
    return tmp_path


@pytest.fixture
def turned(here: Path, tiny: Path) -> Callable[..., Path]:
    """Makes a store of `emb`'s faces perturbed, its rows in another order."""

    def make(folder: str = "turned", name: str = "rotate30", **manifest: object) -> Path:
        store, recognizer = Store.open("emb"), load_recognizer("tiny", tiny)
        rows = store.rows().to_pylist()
        blocks = list(embed_perturbed(rows, store.root, recognizer, parse_transform(name)))
        which, templates = (np.concatenate([block[i] for block in blocks]) for i in (0, 1))
        order = np.random.default_rng(1).permutation(len(which))
        return write(folder, templates[order], [rows[which[i]] for i in order], transform=name, **manifest)

    return make


def write(
    folder: str, templates: np.ndarray, rows: list[dict], failures: list[dict] | None = None, **manifest: object
) -> Path:
    store = Store.open("emb")
    kept = {"score": "cosine", "precision": "fp32", **manifest}
    recognizer = kept.pop("recognizer", store.recognizer)
    with StoreWriter(folder, {"made": folder}, store.root, recognizer, shard_rows=11, manifest=kept) as writer:
        for start in range(0, len(rows), 11):
            part = rows[start : start + 11]
            writer.append(templates[start : start + 11], part, [], start + len(part))
        writer.finish(failures)
    return Path(folder)


def options(tiny: Path, *more: object) -> list[object]:
    return ["fit-mapping", "--embeddings", "emb", "--weights", tiny, *more, "--json"]


# By a store of perturbed faces


def test_a_store_of_turned_faces_gives_the_same_map_as_embedding_anew(here: Path, tiny: Path, turned) -> None:
    turned()
    anew = answer(call(*options(tiny, "--transform", "rotate30", "-o", "anew")))["metrics"]["rotate30"]
    done = call("fit-mapping", "--perturbed", "turned", "-o", "joined", "--json")
    joined = answer(done)["metrics"]["rotate30"]
    one, other = load_mapping("anew/rotate30.safetensors"), load_mapping("joined/rotate30.safetensors")
    np.testing.assert_allclose(one.weight, other.weight, atol=1e-4)
    assert anew["training"]["n"] == joined["training"]["n"] == 84
    assert anew["held_out"]["n"] == joined["held_out"]["n"] == 9
    assert joined["training"] == pytest.approx(anew["training"], rel=1e-4)
    assert joined["held_out"]["cosine_after"] == pytest.approx(anew["held_out"]["cosine_after"], rel=1e-4)
    assert joined["provenance"]["parts"][0]["perturbed"] == Store.open("turned").fingerprint
    assert len(joined["map"]["singular_values"]) == 16 and joined["map"]["condition"] > 1


def test_rows_are_joined_by_path(here: Path, turned) -> None:
    where = join_perturbed(Store.open("emb"), Store.open(turned()))
    assert sorted(where) == list(range(93)) != list(where)
    assert [Store.open("emb").paths()[row] for row in where] == Store.open("turned").paths()


@pytest.mark.filterwarnings("default::facedecode.errors.FacedecodeWarning")
def test_images_that_lost_their_face_may_lack_and_are_counted(here: Path, tiny: Path) -> None:
    store = Store.open("emb")
    rows, templates = store.rows().to_pylist(), store.templates()
    gone = [{"path": rows[4]["path"], "stage": "perturb", "reason": "rotate30 leaves no face in the frame"}]
    kept = [i for i in range(93) if i != 4]
    write("less", templates[kept], [rows[i] for i in kept], gone, transform="rotate30")
    done = call("fit-mapping", "--perturbed", "less", "-o", "joined", "--json")
    assert "warning: rotate30: 1 of 93 images are left out" in done.stderr
    report = answer(done)["metrics"]["rotate30"]
    assert report["left_out"] == 1 and report["training"]["n"] + report["held_out"]["n"] == 92
    far = "+".join(["shift-left"] * 20)
    done = call(*options(tiny, "--transform", far))
    assert done.exit_code == 4 and f"{far}: no pair of templates to fit a map to" in done.stderr


def test_stores_that_do_not_belong_together(here: Path, turned) -> None:
    store = Store.open("emb")
    rows, templates = store.rows().to_pylist(), store.templates()
    changed = [rows[0] | {"sha256": "0" * 64}, *rows[1:]]
    another = replace(store.recognizer, weights_sha256="0" * 64)
    undetected = [{"path": rows[0]["path"], "stage": "detect", "reason": "no face found"}]
    made = {"transform": "rotate30"}
    write("plain", templates, rows, transform=None)
    write("other", templates, rows, recognizer=another, **made)
    write("short", templates[5:], rows[5:], **made)
    write("undetected", templates[1:], rows[1:], undetected, **made)
    write("long", np.concatenate([templates, templates[:1]]), [*rows, rows[0] | {"path": "Q/x.png"}], **made)
    write("twice", np.concatenate([templates, templates[:1]]), [*rows, rows[0]], **made)
    write("nameless", templates, [rows[0] | {"path": None}, *rows[1:]], **made)
    write("changed", templates, changed, **made)
    write("mapped", templates, rows, mapping={"undoes": "rotate30"}, **made)
    write("half", templates, rows, **{**made, "precision": "bf16"})
    says = {
        "plain": "plain: its faces are not perturbed",
        "other": "tiny (weights sha256 000000000000)",
        "short": f"short: not the same images: 5 ({', '.join(row['path'] for row in rows[:3])}, …) of emb are missing",
        "undetected": f"1 ({rows[0]['path']}) of emb are missing",
        "long": "long: not the same images: 1 (Q/x.png) are not in emb",
        "twice": "twice: has two templates of one image",
        "nameless": "nameless: has templates without an image",
        "changed": f"changed: 1 ({rows[0]['path']}) are other images than in emb",
        "mapped": "mapped: templates that were mapped",
        "half": "half: made in bf16, and emb in fp32",
    }
    for folder, message in says.items():
        done = call("fit-mapping", "--perturbed", folder, "--json")
        assert (done.exit_code, done.stderr.count("\n")) == (4, 1), done.stderr
        assert message in done.stderr, folder
    done = call("fit-mapping", "--perturbed", turned(), "--embeddings", "turned")
    assert done.exit_code == 4 and "turned: templates of perturbed faces" in done.stderr
    assert not Path("mappings").exists()


def test_a_mapped_store_is_nearer_the_originals(here: Path, turned) -> None:
    turned()
    assert call("fit-mapping", "--perturbed", "turned", "--quiet").exit_code == 0
    done = call("transform", "turned", "--mapping", "mappings/rotate30.safetensors", "-o", "back")
    assert done.exit_code == 0 and "warning" not in done.stderr, done.stderr
    store = Store.open("emb")
    where = join_perturbed(store, Store.open("turned"))
    before, after = (Store.open(folder).templates() - store.take(where) for folder in ("turned", "back"))
    assert np.square(after).sum() < 0.7 * np.square(before).sum()
    assert Store.open("back").manifest.mapping["undoes"] == "rotate30"


# Kinds


@pytest.mark.parametrize(
    ("more", "rank"),
    [(["--kind", "orthogonal"], 16), (["--kind", "low-rank", "--rank", 3], 3), (["--ridge", "auto"], 16)],
)
def test_kinds_from_the_command_line(here: Path, turned, more: list[object], rank: int) -> None:
    turned()
    report = answer(call("fit-mapping", "--perturbed", "turned", *more, "--json"))["metrics"]["rotate30"]
    assert report["map"]["rank"] == rank
    assert report["kind"] == (more[1] if more[0] == "--kind" else "affine")
    assert report["ridge_by"] == ("gcv" if "auto" in more else "given")
    assert load_mapping("mappings/rotate30.safetensors").report == report
    done = call("fit-mapping", "--perturbed", "turned")
    assert done.exit_code == 4 and "holds a mapping of other data or settings" in done.stderr


WRONG = [
    ([], "give one of --transform, --perturbed and --from-sums"),
    (["--transform", "rotate30", "--perturbed", "turned"], "give one of"),
    (["--perturbed", "turned", "--from-sums", "a"], "give one of"),
    (["--perturbed", "turned", "--images", "faces"], "--images and --weights go with --transform"),
    (["--from-sums", "a", "--people", "first.txt"], "--from-sums is given sums"),
    (["--from-sums", "a", "--sums-to", "b"], "--from-sums is given sums"),
    (["--transform", "rotate30", "--sums-to", "b", "--ridge", "0.1"], "give them with --from-sums"),
    (["--transform", "rotate30", "--ridge", "much"], "--ridge much: give a number"),
    (["--transform", "rotate30", "--ridge", "-1"], "--ridge -1.0: give at least 0"),
    (["--transform", "rotate30", "--kind", "cubic"], "--kind cubic: use affine, orthogonal or low-rank"),
    (["--transform", "rotate30", "--rank", "3"], "a rank goes with a low-rank map"),
    (["--transform", "scale3"], "one of the groups rotations, shifts, scales, occlusions, all"),
    (["--perturbed", "turned", "--perturbed", "turned"], "a second store of rotate30"),
    (["--perturbed", "turned", "--kind", "low-rank", "--rank", "99"], "a rank of 99 between templates of 16"),
]


def test_wrong_usage(here: Path, tiny: Path, turned) -> None:
    turned()
    assert call(*options(tiny, "--transform", "rotate30", "--sums-to", "sums")).exit_code == 0
    Path("sums/rotate30.safetensors").rename("a")
    for arguments, says in WRONG:
        done = call("fit-mapping", *arguments)
        assert done.exit_code == 2 and says in done.stderr, (arguments, done.stderr)
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not Path("mappings").exists() and not Path("b").exists()


# Several transforms, and again


def test_all_transforms_and_what_a_run_had_finished(here: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = embed_perturbed
    begun: list[str] = []

    def interrupted(*arguments, **named):
        begun.append(arguments[3].name)
        if len(begun) == 5:
            raise KeyboardInterrupt
        return made(*arguments, **named)

    monkeypatch.setattr("facedecode.mapping.fit.embed_perturbed", interrupted)
    done = call(*options(tiny, "--transform", "all"))
    assert done.exit_code == 130 and "the same command resumes" in done.stderr
    kept = {p.name: p.stat().st_mtime_ns for p in Path("mappings").iterdir()}
    assert set(kept) == {f"{name}.safetensors" for name in transform_names()[:4]}
    metrics = answer(call(*options(tiny, "--transform", "all")))["metrics"]
    assert list(metrics) == sorted(transform_names()) and len(begun) == 1 + len(transform_names())
    assert {name: (Path("mappings") / name).stat().st_mtime_ns for name in kept} == kept
    for name in transform_names():
        assert load_mapping(f"mappings/{name}.safetensors").transform == name


def test_a_chain_that_displaces_nothing_has_nothing_to_undo(here: Path) -> None:
    store, name = Store.open("emb"), "rotate90+rotate-90"
    write("back", store.templates(), store.rows().to_pylist(), transform=name)
    done = call("fit-mapping", "--perturbed", "back", "--json")
    report = answer(done)["metrics"][name]
    assert report["training"]["displacement"] < 1e-12 and report["training"]["relative"] is None
    assert "84 pairs, nothing was displaced\n" in done.stderr
    np.testing.assert_allclose(load_mapping(f"mappings/{name}.safetensors").weight, np.eye(16), atol=1e-5)


# Sums


def test_sums_of_parts_give_the_map_of_the_whole(here: Path, tiny: Path, turned) -> None:
    turned()
    whole = answer(call("fit-mapping", "--perturbed", "turned", "-o", "whole", "--json"))["metrics"]["rotate30"]
    expected = {"first": (72, 3), "second": (12, 6)}  # the second alone would not determine a map
    for half, (training, held_out) in expected.items():
        run = ["fit-mapping", "--perturbed", "turned", "--people", f"{half}.txt", "--sums-to", half, "--json"]
        counts = answer(call(*run))["metrics"]["rotate30"]
        assert counts == {"training": training, "held_out": held_out, "left_out": 0}
        before = Path(half, "rotate30.safetensors").stat().st_mtime_ns
        assert answer(call(*run))["metrics"]["rotate30"] == counts  # done before
        assert Path(half, "rotate30.safetensors").stat().st_mtime_ns == before
    files = [f"{half}/rotate30.safetensors" for half in expected]
    given = [part for file in files for part in ("--from-sums", file)]
    merged = answer(call("fit-mapping", *given, "-o", "merged", "--json"))["metrics"]["rotate30"]
    one, other = load_mapping("whole/rotate30.safetensors"), load_mapping("merged/rotate30.safetensors")
    np.testing.assert_allclose(one.weight, other.weight, atol=1e-6)
    assert one.recognizer == other.recognizer
    for judged in ("training", "held_out"):
        numbers = [{k: v for k, v in report[judged].items() if k != "score"} for report in (whole, merged)]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-6)
    # Other kinds from the same sums, without the store.
    low = answer(call("fit-mapping", *given, "-o", "low", "--kind", "low-rank", "--rank", 2, "--json"))
    assert low["metrics"]["rotate30"]["map"]["rank"] == 2
    done = call("fit-mapping", *given, "--from-sums", files[0], "-o", "new")
    assert done.exit_code == 4 and "first/rotate30.safetensors: sums of rotate30: people of a store" in done.stderr
    done = call("fit-mapping", "--perturbed", "turned", "--sums-to", "first")
    assert done.exit_code == 4 and "holds sums of another store or of other people" in done.stderr


def sums_of(x: np.ndarray, y: np.ndarray, held: np.ndarray, **about: object) -> MappingSums:
    known = {"transform": "rotate30", "recognizer": TINY, "parts": []} | about
    sums = MappingSums(known["transform"], known["recognizer"], known["parts"])
    sums.add(x, y, held)
    return sums


def example(n: int = 60, d: int = 3, **about: object) -> MappingSums:
    random = np.random.default_rng(0)
    return sums_of(random.normal(size=(n, d)), random.normal(size=(n, d)), np.arange(n) % 5 == 0, **about)


def test_saved_sums_are_what_they_were(tmp_path: Path) -> None:
    sums, path = example(), tmp_path / "rotate30.safetensors"
    sums.left_out = 7
    sums.save(path)
    loaded = load_sums(path)
    for side in ("training", "held_out"):
        for moment in ("n", "mean_in", "mean_out", "in_in", "in_out", "out_out"):
            mine, theirs = (getattr(getattr(s, side), moment) for s in (sums, loaded))
            np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(sums.sample(), loaded.sample())
    assert (loaded.transform, loaded.recognizer, loaded.left_out) == ("rotate30", TINY, 7)
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_merged_from_files_equals_the_whole(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x, y, held = random.normal(size=(500, 6)) + 9, random.normal(size=(500, 6)), np.arange(500) % 7 == 0
    merged = MappingSums("rotate30", TINY)
    held[:3] = False
    for k, part in enumerate(np.split(np.arange(500), [3, 3, 260])):  # one without held-out rows, one without any
        sums_of(x[part], y[part], held[part]).save(tmp_path / f"{k}.safetensors")
        merged.merge(load_sums(tmp_path / f"{k}.safetensors"))
    whole = fit_mapping([(x, y, held)], "rotate30", TINY)
    again = solve_mapping(merged, Method())
    np.testing.assert_allclose(again.weight, whole.weight, atol=1e-6)
    assert again.report["held_out"]["n"] == whole.report["held_out"]["n"] == int(held.sum())
    assert again.report["held_out"]["cosine_after"] == pytest.approx(whole.report["held_out"]["cosine_after"], rel=1e-5)


def test_memory_does_not_grow_with_the_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facedecode.mapping.sums._SAMPLE_NUMBERS", 32 * 100)

    def blocks(count: int):
        random = np.random.default_rng(0)
        for _ in range(count):
            yield *random.normal(size=(2, 500, 32)), random.random(500) < 0.1

    def peak(count: int) -> int:
        tracemalloc.start()
        fit_mapping(blocks(count), "rotate30", TINY)
        try:
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(4)  # what is imported and cached at first
    few = peak(4)
    assert peak(80) < 1.2 * few < 4e6  # 20 times the pairs; they would be 20 MB


def test_a_merged_sample_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facedecode.mapping.sums._SAMPLE_NUMBERS", 3 * 8)
    one, other = example(), example(100)
    one.merge(other)
    perturbed, original = one.sample()
    assert perturbed.shape == original.shape == (8, 3)


def test_sums_that_do_not_merge() -> None:
    def part(store: str, people: list[str] | None) -> dict:
        return {"parts": [{"store": store, "people": people, "perturbed": None}]}

    known = example(**part("a", ["Ann", "Bob"]))
    for about, message in (
        ({"transform": "rotate60"}, "sums of rotate60 and of rotate30 do not merge"),
        ({"recognizer": replace(TINY, name="other")}, "other"),
        ({"recognizer": replace(TINY, weights_sha256="cd" * 32)}, "cdcdcdcdcdcd"),
        ({"d": 4}, "do not merge"),
        (part("a", ["Bob", "Cid"]), "would count twice"),
        (part("a", None), "would count twice"),
    ):
        with pytest.raises(BadInput, match=message):
            known.merge(example(**about))
    assert known.training.n == 48
    for about in (part("a", ["Cid"]), part("b", ["Ann"]), part("c", None)):
        known.merge(example(**about))
    assert known.training.n == 4 * 48 and len(known.parts) == 4


def of_part(sums: MappingSums, part: dict) -> MappingSums:
    """Sums of the same recognizer and transform that name a part."""
    other = MappingSums(sums.transform, sums.recognizer, [part])
    other.add(*np.random.default_rng(0).normal(size=(2, 30, sums.training.dim_in)), np.zeros(30, bool))
    return other


def again(name: str, tiny: Path) -> tuple[Store, Reembedded]:
    """A store with the source of its perturbed templates."""
    store = Store.open(name)
    return store, Reembedded(store, load_recognizer("tiny", tiny), parse_transform("rotate30"))


def test_the_same_images_do_not_merge_through_two_stores(here: Path, tiny: Path) -> None:
    store, source = again("emb", tiny)
    rows, first = store.rows().to_pylist(), sum_store(store, source, Path("sums/one"))
    write("some", store.templates()[:60], rows[:60])
    write("others", store.templates(), [row | {"sha256": f"{k:064x}"} for k, row in enumerate(rows)])
    parts = {name: _choose(Store.open(name), source, None)[1] for name in ("some", "others")}
    with pytest.raises(BadInput, match="people of a store, or images, would count twice"):
        first.merge(of_part(first, parts["some"]))
    first.merge(of_part(first, parts["others"]))


def test_a_part_of_people_who_are_all_held_out_is_held_out(here: Path, tiny: Path) -> None:
    store, source = again("emb", tiny)
    rows = np.flatnonzero(held_out_people(store.identities(), store.paths()))
    write("part", store.take(rows), store.rows().take(rows).to_pylist())
    whole, part = sum_store(store, source, Path("sums/whole")), sum_store(*again("part", tiny), Path("sums/part"))
    assert whole.held_out.n == part.held_out.n == len(rows) > 0 == part.training.n


@pytest.mark.parametrize("name", ["../up", "rotate200"])
def test_a_name_that_is_none_does_not_become_a_file(here: Path, turned, name: str) -> None:
    path = turned() / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"transform": name}))
    done = call("fit-mapping", "--perturbed", "turned")
    assert done.exit_code == 4 and f"turned: unknown transform '{name}'" in done.stderr


def test_mapped_templates_are_no_originals(here: Path, tiny: Path) -> None:
    path = Path("emb/manifest.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"mapping": {"undoes": "rotate30"}}))
    done = call(*options(tiny, "--transform", "rotate30"))
    assert done.exit_code == 4 and "templates that were mapped" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 3}, "version 3, and this facedecode reads 2"),
        ({"format": "facedecode-mapping"}, "not a mapping-sums file"),
        ({"transform": None}, "transform"),
        ({"n": {"training": 48}}, "field 'n.held_out' is missing"),
        ({"n": {"training": 48, "held_out": 3}}, "do not fit together"),
        ({"n": {"training": -1, "held_out": 12}}, "field 'n.training' is not at least 0"),
        ({"training.in_in": np.zeros((3, 2))}, "do not fit together"),
        ({"sample": np.zeros((2, 5, 3))}, "do not fit together"),
        ({"held_out.mean_in": np.array([0, np.nan, 0])}, "NaN or infinite"),
        ({"priorities": np.zeros(12, np.float32)}, "float32, not float64"),
    ],
)
def test_malformed_sums_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "sums.safetensors"
    example().save(path)
    with safe_open(path, framework="numpy") as file:
        about = json.loads(file.metadata()["facedecode"]) | {"version": 1, "sha256": None}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    for key, value in change.items():
        (tensors if isinstance(value, np.ndarray) else about)[key] = value
    save_file(tensors, path, metadata={"facedecode": json.dumps(about)})
    with pytest.raises(BadInput, match=f"{path}: .*{message}") as caught:
        load_sums(path)
    assert "\n" not in str(caught.value)


def test_a_map_is_no_file_of_sums_and_the_reverse(here: Path, turned) -> None:
    turned()
    example().save("sums.safetensors")
    assert call("fit-mapping", "--perturbed", "turned", "--quiet").exit_code == 0
    for file in ("mappings/rotate30.safetensors", "gone.safetensors"):
        done = call("fit-mapping", "--from-sums", file)
        assert done.exit_code == 4 and done.stderr.startswith(f"error: {file}: "), done.stderr
        assert "fit-mapping --sums-to" in done.stderr
    with pytest.raises(BadInput, match="not a mapping"):
        load_mapping("sums.safetensors")
