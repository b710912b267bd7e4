"""People are known by their pictures: whatever these are called, and however their files were written anew."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import operator
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from typer.testing import CliRunner

import facedecode
from facedecode.annotations.protocols import people_names
from facedecode.cli import app
from facedecode.decoders import load_decoder
from facedecode.errors import BadInput, FacedecodeWarning
from facedecode.evaluation.cohort import require_unseen, require_unseen_by_store, unseen_images
from facedecode.inversion.confidence_fit import fit_store_confidence
from facedecode.inversion.jobs import ConfidenceJob
from facedecode.known_pictures import FILE, NAME, SAME_FILE, SAME_PICTURE, Known, KnownPictures, MadeBy
from facedecode.pictures import align
from facedecode.recognizers import load_recognizer
from facedecode.store import Store, StoreWriter
from facedecode.store.merging import merge_stores
from facedecode.training.decoder import train_store
from facedecode.training.jobs import DecoderJob, LossWeights, TrainSettings

MADE_BY = MadeBy("made up", "ab" * 32)
DIMS = (16, 100, 128, 512, 4096)


def templates_of(people: int, dim: int = 128, seed: int = 0) -> np.ndarray:
    """Templates that lean to one side, as dlib's do."""
    return np.random.default_rng(seed).normal(0.5, 1, (people, dim)).astype(np.float32)


def rows_of(count: int, names: str = "p") -> list[dict]:
    return [
        {"identity": f"{names}{i}", "sha256": hashlib.sha256(f"{names}{i}".encode()).hexdigest()} for i in range(count)
    ]


# ---------------------------------------------------------------- the list


@pytest.mark.parametrize("dim", DIMS)
def test_near_templates_are_of_one_picture_and_others_are_not(dim: int) -> None:
    known, others = templates_of(300, dim), templates_of(300, dim, 1)
    pictures = KnownPictures.of([], known, MADE_BY)
    apart = np.sqrt(2 * dim)
    noise = np.random.default_rng(2).normal(0, 0.07 * apart / np.sqrt(dim), known.shape)
    for copies in (known, 7 * known, known + noise):
        assert set(pictures.judge([{}] * 300, copies, MADE_BY)) == {SAME_PICTURE}
    assert set(pictures.judge([{}] * 300, others, MADE_BY)) == {""}
    assert set(pictures.judge([{}] * 300, known, dataclasses.replace(MADE_BY, weights_sha256="cd" * 32))) == {""}
    assert not pictures.compares(None) and pictures.compares(MADE_BY)


@pytest.mark.parametrize("dim", [4, 8, 12, 16, 24])
def test_short_templates_of_different_people_are_not_taken_for_one_picture(dim: int) -> None:
    generator = np.random.default_rng(dim)
    known, others = generator.normal(size=(2, 3000, dim)).astype(np.float32)
    pictures = KnownPictures.of([], known, MADE_BY)
    assert set(pictures.judge([{}] * 3000, others, MADE_BY)) == {""}
    assert set(pictures.judge([{}] * 3000, known, MADE_BY)) == {SAME_PICTURE}
    # Copies of templates this short are as far apart as others are.
    assert (Known((), pictures).not_compared(MADE_BY) is None) == (dim >= 12)


def test_lists_of_templates_of_two_lengths_are_not_complete_together() -> None:
    short, long = (KnownPictures.of([], templates_of(5, dim), MADE_BY) for dim in (32, 128))
    for joined in (short | long, long | short):
        assert not joined.complete and (short | short).complete
        assert "not all recorded" in (Known((), joined).not_compared(MADE_BY) or "")


def test_many_recognizers_can_be_listed(tmp_path: Path) -> None:
    lists = [KnownPictures.of([], templates_of(2), dataclasses.replace(MADE_BY, name=f"r{i}")) for i in range(20)]
    joined = functools.reduce(operator.or_, lists)
    joined.write(tmp_path / "list")
    assert len(KnownPictures.read(tmp_path / "list").signatures) == 20


def test_no_template_is_none_of_anybody() -> None:
    pictures = KnownPictures.of(rows_of(2), np.zeros((2, 128), np.float32), MADE_BY)
    assert list(pictures.judge([{}] * 3, np.zeros((3, 128), np.float32), MADE_BY)) == [""] * 3
    alone = KnownPictures.of([], templates_of(1), MADE_BY)  # how far apart pictures are, one does not tell
    near = templates_of(1) + np.float32(0.1)
    assert list(alone.judge([{}] * 2, np.concatenate([templates_of(1), near]), MADE_BY)) == [SAME_PICTURE, ""]
    assert "there is one only" in (Known((), alone).not_compared(MADE_BY) or "")
    assert list(KnownPictures().judge(rows_of(2), templates_of(2), MADE_BY)) == ["", ""]


def test_each_verdict() -> None:
    rows, templates = rows_of(4), templates_of(4)
    known = Known(["p0"], KnownPictures.of(rows[:3], templates[:3], MADE_BY))
    judged = [rows[0], rows[1] | {"identity": None}, rows[2] | {"identity": "x", "sha256": "ef" * 32}, rows[3]]
    assert list(known.judge(judged, templates, MADE_BY)) == [NAME, SAME_FILE, SAME_PICTURE, ""]
    assert list(known.judge(judged)) == [NAME, SAME_FILE, "", ""]
    assert list(known.judge([{"sha256": "no hash"}, {"sha256": None}, {}])) == ["", "", ""]


def test_a_union_is_the_list_of_all(tmp_path: Path) -> None:
    rows, templates = rows_of(50), templates_of(50)
    parts = [KnownPictures.of(rows[a:b], templates[a:b], MADE_BY) for a, b in ((0, 30), (20, 50), (0, 0))]
    assert (parts[0] | parts[1] | parts[2]).write(tmp_path / "a") == KnownPictures.of(rows, templates, MADE_BY).write(
        tmp_path / "b"
    )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    other = dataclasses.replace(MADE_BY, name="other")
    both = parts[0] | KnownPictures.of([], templates, other)
    assert both.compares(MADE_BY) is False and len(both.signatures) == 2
    again = KnownPictures.read(tmp_path / "c", both.write(tmp_path / "c"))
    assert {*again.signatures} == {*both.signatures} and (again.files == both.files).all() and again.complete
    lacking = Known(["p0"], parts[0]) | Known(["x"])
    assert not lacking.pictures.complete and (lacking.pictures.files == parts[0].files).all()
    assert lacking.people == ("p0", "x") and (Known() | Known((), parts[1])).pictures.complete


def test_damage_is_told_by_the_files_name(tmp_path: Path) -> None:
    path = tmp_path / FILE
    sha256 = KnownPictures.of(rows_of(9), templates_of(9), MADE_BY).write(path)
    data = path.read_bytes()
    other = KnownPictures.of(rows_of(8), templates_of(8), MADE_BY)
    for spoil in (
        lambda: path.unlink(),
        lambda: path.write_bytes(data[:-3]),
        lambda: path.write_bytes(data[:-3] + b"abc"),
        lambda: other.write(path),
        lambda: path.write_bytes(b""),
    ):
        spoil()
        with pytest.raises(BadInput, match=rf"{FILE}: "):
            KnownPictures.read(path, sha256)
    for wrong in (
        KnownPictures(np.array([3, 1], np.uint64)),
        KnownPictures(signatures={next(iter(other.signatures)): np.ones((4, 65), np.int8)}),
        KnownPictures(signatures={next(iter(other.signatures)): np.zeros((4, 64), np.int8)}),
    ):
        wrong.write(path)
        with pytest.raises(BadInput, match="holds no list of known pictures"):
            KnownPictures.read(path)


# ---------------------------------------------------------------- ways round the names


@pytest.fixture
def ridge(tiny_store: Path, tmp_path: Path) -> Path:
    """A decoder of the people P0 to P4."""
    people = tmp_path / "train.txt"
    people.write_text("".join(f"P{i}\n" for i in range(5)))
    train_store(DecoderJob(tiny_store, tmp_path / "ridge", architecture="ridge", people=people, settings=SETTINGS))
    return tmp_path / "ridge"


SETTINGS = TrainSettings(
    image_size=64, widths=(8, 8, 8, 4, 4), coarse=8, epochs=1, batch_size=6, mirror=False,
    weights=LossWeights(perceptual=0, identity=0),
)  # fmt: skip


def written_anew(
    folder: Path, store: Path, tiny: Path, change: Callable[[dict, Path], Path | None], people: range
) -> Store:
    """A store of some people's images, under other people's names. change: writes the image anew; None: no file."""
    own, recognizer = Store.open(store), load_recognizer("tiny", tiny)
    rows, templates = [], []
    for row, template in zip(own.rows().to_pylist(), own.templates(), strict=True):
        if int(row["identity"][1:]) not in people:
            continue
        name = f"Q{row['identity'][1:]}"
        path = folder / "faces" / name / Path(row["path"]).with_suffix(".jpg").name
        path.parent.mkdir(parents=True, exist_ok=True)
        new = row | {"identity": name, "path": path.relative_to(folder / "faces").as_posix()}
        if change(own.root / row["path"], path) is None:
            new = {"identity": name, "path": new["path"], "sha256": None}
        else:
            picture = np.asarray(Image.open(path).convert("RGB"))
            new["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
            template = recognizer.embed_crops(recognizer.crop(picture, align.portrait_face(96))[None])[0]
        rows.append(new)
        templates.append(template)
    manifest = {"score": "negative-euclidean", "transform": None, "precision": "fp32", "l2_normalized": False}
    with StoreWriter(folder / "emb", {}, folder / "faces", own.recognizer, manifest=manifest) as writer:
        writer.append(np.stack(templates), rows, [], len(rows))
        writer.finish()
    return Store.open(folder / "emb")


def copied(source: Path, path: Path) -> Path:
    path.write_bytes(source.read_bytes())
    return path


def encoded(source: Path, path: Path) -> Path:
    Image.open(source).save(path, quality=80)
    return path


def imported(source: Path, path: Path) -> None:
    return None


WAYS = {"renamed": copied, "re-encoded": encoded, "imported": imported}


@pytest.mark.parametrize("way", WAYS)
def test_pictures_under_other_names_are_refused(
    way: str, ridge: Path, tiny_store: Path, tiny: Path, tmp_path: Path
) -> None:
    decoder = load_decoder(ridge)
    store = written_anew(tmp_path / "again", tiny_store, tiny, WAYS[way], range(3, 5))
    how = SAME_FILE if way == "renamed" else SAME_PICTURE
    with pytest.raises(BadInput, match=rf"decoder d: trained on 6 of the 6 pictures .* \({how}: 6; Q3/.*judge it on o"):
        require_unseen("d", decoder.known, unseen_images(store, None).judged)
    others = written_anew(tmp_path / "others", tiny_store, tiny, WAYS[way], range(5, 10))
    assert require_unseen("d", decoder.known, unseen_images(others, None).judged) == []


def test_a_merged_store_hides_nothing(ridge: Path, tiny_store: Path, tiny: Path, tmp_path: Path) -> None:
    stores = [
        written_anew(tmp_path / name, tiny_store, tiny, copied, people)
        for name, people in (("a", range(4, 6)), ("b", range(6, 10)))
    ]
    merge_stores(stores, tmp_path / "merged")
    found = CliRunner().invoke(
        app,
        [
            "evaluate",
            "reconstruction",
            str(tmp_path / "merged"),
            "--decoder",
            f"d={ridge}",
            "-o",
            str(tmp_path / "out"),
        ],
    )
    assert found.exit_code == 4 and "decoder d: trained on 3 of the 18 pictures" in found.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("way", ["renamed", "re-encoded"])
def test_a_confidence_map_leaves_them_out(way: str, ridge: Path, tiny_store: Path, tiny: Path, tmp_path: Path) -> None:
    store = written_anew(tmp_path / "again", tiny_store, tiny, WAYS[way], range(3, 10))
    job = ConfidenceJob(store.folder, tmp_path / "map.safetensors", str(ridge))
    made = fit_store_confidence(job, store, load_decoder(ridge))
    assert made.fitted_on == [f"Q{i}" for i in range(5, 10)]


def test_through_a_start(tiny_store: Path, tiny: Path, tmp_path: Path) -> None:
    job = DecoderJob(tiny_store, tmp_path / "first", exclude=("P1",), validation=0, weights=tiny, settings=SETTINGS)
    first = train_store(job)
    everybody = Store.open(tiny_store)
    judged = unseen_images(everybody, None).judged
    lonely = dataclasses.replace(judged, rows=[row | {"identity": "x"} for row in judged.rows])
    others = tuple(f"P{i}" for i in range(2, 10))
    second = dataclasses.replace(job, output=tmp_path / "second", start=job.output, exclude=others)
    made = train_store(second)
    assert len(first.known.pictures.files) == 27 and len(made.known.pictures.files) == 30
    with pytest.raises(BadInput, match="30 of the 30 pictures"):
        require_unseen("second", made.known, lonely)
    # Where the start keeps no list, the second's is not of all.
    card = json.loads((job.output / "decoder.json").read_text())
    del card["known_pictures"]
    (job.output / "decoder.json").write_text(json.dumps(card))
    third = train_store(dataclasses.replace(second, output=tmp_path / "third"))
    assert len(third.known.pictures.files) == 6 and not third.known.pictures.complete


def test_a_decoder_without_the_list_is_judged_by_names_and_says_so(ridge: Path, tiny_store: Path) -> None:
    images = unseen_images(Store.open(tiny_store), None)
    images = images.acquired_of({"P8", "P9"})
    card = json.loads((ridge / "decoder.json").read_text())
    (ridge / FILE).rename(ridge / "elsewhere")
    with pytest.raises(BadInput, match=rf"{FILE}: no such file"):
        require_unseen("d", load_decoder(ridge).known, images.judged)
    del card["known_pictures"]
    (ridge / "decoder.json").write_text(json.dumps(card))
    with pytest.warns(FacedecodeWarning, match="compared with them by name only"):
        (told,) = require_unseen("d", load_decoder(ridge).known, images.judged)
    assert told.startswith("decoder d: trained on pictures that are not all recorded")


def test_a_store_keeps_what_its_recognizer_and_maps_were_made_from(tiny_store: Path, tmp_path: Path) -> None:
    own = Store.open(tiny_store)
    pictures = KnownPictures.of(own.rows().to_pylist(), own.templates(), own.made_by)
    manifest = {"score": own.score, "mapping": {"undoes": "rotate30"}, "fitted_on": ["P0"], "l2_normalized": False}
    folder = tmp_path / "mapped"
    with StoreWriter(folder, {}, own.root, own.recognizer, manifest=manifest, pictures=pictures) as writer:
        writer.append(own.templates(), [row | {"identity": "x"} for row in own.rows().to_pylist()], [], 30)
        writer.finish()
    store = Store.open(folder)
    assert store.known.people == ("P0",)
    with pytest.raises(BadInput, match="the mapping of these templates was fitted on 30 of the 30 pictures"):
        require_unseen_by_store(store, unseen_images(store, None).judged)
    (folder / FILE).write_bytes(b"x")
    with pytest.raises(BadInput, match=FILE):
        _ = Store.open(folder).known


# ---------------------------------------------------------------- real pictures


def test_the_shipped_decoder_knows_copies_of_lfws_pictures(lfw: Path, tmp_path: Path) -> None:
    known, recognizer = load_decoder("dlib-resnet").known, load_recognizer("dlib-resnet")
    assert len(known.pictures.files) == 8994 and known.pictures.complete
    people = {name: people_names(lfw / "protocol" / f"people{name}.txt")[5:400:50] for name in ("DevTrain", "DevTest")}
    ways: dict[str, Callable[[Image.Image], Image.Image]] = {
        "jpeg": lambda image: image,
        "mirrored": ImageOps.mirror,
        "cropped": lambda image: image.crop((6, 9, 244, 246)),
        "small": lambda image: image.resize((160, 160)),
    }
    told = {}
    for part, names in people.items():
        paths = [lfw / "images" / name / f"{name}_0001.jpg" for name in names]
        keys = [{"sha256": hashlib.sha256(path.read_bytes()).hexdigest()} for path in paths]
        assert set(known.judge(keys)) == ({SAME_FILE} if part == "DevTrain" else {""})
        for way, change in ways.items():
            copies = [change(Image.open(path)) for path in paths]
            for number, copy in enumerate(copies):
                copy.save(tmp_path / f"{number}.jpg", quality=60 if way == "jpeg" else 90)
            made = facedecode.embed([tmp_path / f"{number}.jpg" for number in range(len(paths))], recognizer)
            verdicts = known.judge([{}] * len(paths), made.templates, MadeBy.of(recognizer.describe()))
            told[part, way] = (verdicts == SAME_PICTURE).mean()
    assert {rate for (part, _), rate in told.items() if part == "DevTest"} == {0.0}
    assert all(rate >= 0.8 for (part, _), rate in told.items() if part == "DevTrain"), told
