"""Files of strangers, changed at random: each is refused as bad input or taken, and nothing elsewhere is opened.

All is seeded, so that a change that fails is the same in every run.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import random
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch

from facedecode.cli.checks import check
from facedecode.decoders import Provenance, load_decoder, save_decoder
from facedecode.decoders.closed_form import Nearest, Ridge
from facedecode.decoders.network import DeepFaceDecoder
from facedecode.decoders.plausibility import TemplateStatistics
from facedecode.decoders.training_record import TrainingRecord
from facedecode.errors import FacedecodeError
from facedecode.identity import RecognizerId
from facedecode.mapping.maps import Mapping, load_mapping
from facedecode.mapping.sums import MappingSums, load_sums
from facedecode.pictures.align import ARCFACE_POINTS, PointCrop
from facedecode.recognizers.contract import read_contract
from facedecode.recognizers.networks import SmallResNet
from facedecode.recognizers.recognizer import Recognizer
from facedecode.recognizers.registry import find_spec_by_name
from facedecode.records import parse_json
from facedecode.store import Store, StoreWriter, load_templates
from facedecode.store.images import read_portraits
from facedecode.tensor_file import _checksum

TINY = RecognizerId("tiny", "ab" * 32, dim=4, score="cosine", training_people=("Ann", "Bob"))
PATHS = (
    "../x.png",
    "/etc/passwd",
    "a/../../x.png",
    "..",
    ".",
    "",
    "/",
    "a\0b",
    "a\\..\\..\\x",
    "C:\\x",
    "~/x",
    "x" * 300,
)
TEXTS = (
    "=1+1",
    "\x1b[31m",
    "<script>",
    "\u202ex",
    "\ud800",
    "\udc80",
    "\r\n",
    "None",
    "nan",
    "0x1",
    "٣",
    "9" * 64,
    "x" * 9999,
)
NUMBERS = (0, -1, 1, 2, 3, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, 10**400, 0.5, -0.0, 1e-320, 1e308, 1e20)
ODD = (*PATHS, *TEXTS, *NUMBERS, None, True, False, [], {}, [[]], [None], [1, "x"], {"": {}}, {"x": [1]})
LONGEST = 60  # seconds of one change: a hang


def deep(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"x": value}
    return value


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Where the values of a JSON object are."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*path, key)
        yield from places(each, (*path, key))


def changed_json(held: Any, chance: random.Random) -> Any:
    """A copy with one to three of its values gone, odd, nested, doubled, or at one another's place."""
    held = copy.deepcopy(held)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        there = list(places(held))
        if not there:
            return held
        *above, key = chance.choice(there)
        parent = held
        for step in above:
            parent = parent[step]
        kind = chance.random()
        if kind < 0.2:
            del parent[key]
        elif kind < 0.3:
            parent[key] = deep(chance.choice((5, 60, 70, 400)))
        elif kind < 0.4 and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        elif kind < 0.45 and isinstance(parent, dict):
            parent[chance.choice(TEXTS)] = copy.deepcopy(parent[key])
        else:
            parent[key] = copy.deepcopy(chance.choice(ODD))
    return held


def changed_bytes(data: bytes, chance: random.Random) -> bytes:
    """Bytes that are cut, turned, doubled, left out, or put in."""
    data = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        place = chance.randrange(len(data) + 1)
        kind = chance.random()
        if kind < 0.5 and place < len(data):
            data[place] ^= 1 << chance.randrange(8)
        elif kind < 0.6:
            del data[place:]
        elif kind < 0.75:
            del data[place : place + chance.choice((1, 4, 64))]
        elif kind < 0.9:
            data[place:place] = chance.choice((b"\0", b"\xff" * 8, b"[" * 9, b'"', b"9" * 20, b"\n", b"{}"))
        else:
            data[place:place] = data[place : place + 16]
    return bytes(data)


def as_text(value: Any) -> bytes:
    return json.dumps(value).encode()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ---------------------------------------------------------------- what is opened, and how a change ends

_OPENED: list[str] | None = None


def _audit(event: str, arguments: tuple) -> None:
    if _OPENED is not None and event == "open" and isinstance(arguments[0], str | bytes):
        _OPENED.append(os_path(arguments[0]))


def os_path(name: str | bytes) -> str:
    return str(Path(name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name).absolute())


sys.addaudithook(_audit)  # for good: Python has no way to take one back
CODE = tuple({str(Path(each).resolve()) for each in (sys.prefix, sys.base_prefix, Path(__file__).parents[1])})
SYSTEM = ("/proc/", "/sys/devices/", "/dev/null", "/usr/lib/", "/usr/share/zoneinfo/")


class Hang(BaseException):
    """A change that takes too long."""


def _too_long(*_: object) -> None:
    raise Hang


@contextlib.contextmanager
def watched(here: Path) -> Iterator[Callable[[Callable[[], object], Any], bool]]:
    """What runs a look at a changed file and says whether it was refused; anything but bad input fails the test.

    here: the one folder where files may be opened.
    """
    global _OPENED

    def tried(look: Callable[[], object], change: Any) -> bool:
        global _OPENED
        _OPENED = []
        signal.alarm(LONGEST)
        refused = False
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                look()
        except FacedecodeError:
            refused = True
        except (Exception, Hang) as error:
            raise AssertionError(f"{repr(change)[:1500]} ends as {type(error).__name__}: {str(error)[:300]}") from error
        finally:
            signal.alarm(0)
            opened, _OPENED = _OPENED, None
        ours = (str(here), *CODE, *SYSTEM)
        # A new store asks the folders above whether they are one.
        above = {str(folder / name) for folder in here.parents for name in ("manifest.json", "progress.json")}
        elsewhere = [path for path in opened if not path.startswith(ours) and path not in above]
        assert not elsewhere, f"{repr(change)[:1500]} opens {elsewhere}"
        return refused

    before = signal.signal(signal.SIGALRM, _too_long)
    try:
        yield tried
    finally:
        signal.signal(signal.SIGALRM, before)
        _OPENED = None


def test_the_watch_sees_what_is_wrong(tmp_path: Path) -> None:
    def opens_elsewhere() -> None:
        with contextlib.suppress(OSError):
            Path("/etc/passwd").read_bytes()

    def is_a_bug() -> None:
        raise KeyError("x")

    with watched(tmp_path) as tried:
        assert not tried(lambda: parse_json("it", "{}"), "")
        assert tried(lambda: parse_json("it", "{"), "")
        for look, said in ((opens_elsewhere, "opens .*passwd"), (is_a_bug, "ends as KeyError"), (_too_long, "Hang")):
            with pytest.raises(AssertionError, match=said):
                tried(look, "")


# ---------------------------------------------------------------- stores


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of four images, with a failure, beside what nobody may open."""
    (tmp_path / "x.png").write_text("secret")
    random_pixels = np.random.default_rng(0)
    rows = []
    for number in range(4):
        path = tmp_path / "here" / "images" / "Ann" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random_pixels.integers(0, 256, (48, 40, 3), np.uint8)).save(path)
        face = {"box": [8, 8, 30, 40], "landmarks": [12, 18, 26, 18, 19, 26, 14, 33, 24, 33], "probability": 0.9}
        more = {"path": f"Ann/{number}.png", "identity": "Ann", "width": 40, "height": 48, "sha256": sha256(path)}
        rows.append(face | more)
    templates = random_pixels.normal(size=(4, 4)).astype(np.float32)
    with StoreWriter(
        tmp_path / "here" / "emb",
        {"n": 1},
        tmp_path / "here" / "images",
        TINY,
        manifest={"score": "cosine"},
        shard_rows=2,
    ) as writer:
        writer.append(templates[:2], rows[:2], [{"path": "Ann/9.png", "stage": "detect", "reason": "no face"}], 3)
        writer.append(templates[2:], rows[2:], [], 5)
        writer.finish()
    return tmp_path / "here" / "emb"


def look_at_store(folder: Path) -> None:
    """All that commands ask of a store."""
    from facedecode.evaluation.cohort import unseen_images
    from facedecode.provenance import describe_store
    from facedecode.store.join import common_rows
    from facedecode.store.processing import inherited, require_extracted

    check("store", str(folder), {})
    store = Store.open(folder)
    json.dumps([describe_store(store), inherited(store), store.manifest.as_json()], allow_nan=False)
    rows = store.rows().to_pylist()
    assert len(rows) == len(store.templates()) == len(store) and all(len(part) == len(t) for part, t in store.shards())
    store.take(np.array([len(store) - 1, 0]))
    repr(store), store.failures(), common_rows([store, store])
    read_portraits(rows, store.images(), 16)
    require_extracted(store)
    unseen_images(store, None)


def reseal(folder: Path) -> None:
    """Hashes that say that what is there is what was written."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for shard in manifest["shards"]:
        shard["sha256"] = sha256(folder / shard["file"])
        shard["parquet_sha256"] = sha256((folder / shard["file"]).with_suffix(".parquet"))
    manifest["failures"]["sha256"] = sha256(folder / "failures.jsonl")
    path.write_text(json.dumps(manifest))


def changed_rows(path: Path, chance: random.Random) -> None:
    """Rows with odd values, or columns, in a file that Parquet itself has nothing against."""
    table = pq.ParquetFile(path).read()
    if chance.random() < 0.15:
        kind = chance.randrange(4)
        if kind == 0:
            table = table.drop_columns([chance.choice(table.column_names)])
        elif kind == 1:
            table = table.select(chance.sample(table.column_names, len(table.column_names)))
        elif kind == 2:
            table = pa.concat_tables([table, table]).slice(0, chance.randrange(4))
        else:
            table = table.set_column(0, "path", pa.array([b"\xff\xfe"] * len(table), pa.binary()).view(pa.string()))
        pq.write_table(table, path)
        return
    rows = table.to_pylist()
    numbers = (None, float("nan"), float("inf"), -1e30, 3e38, 0.0, -1.0, 1e6, 2e6, 7.0)
    for _ in range(chance.choice((1, 1, 2, 4))):
        row, name = chance.choice(rows), chance.choice(table.column_names)
        if name in ("path", "identity", "sha256"):
            texts = [each for each in (*PATHS, *TEXTS) if "\ud800" not in each and "\udc80" not in each]
            row[name] = chance.choice((None, *texts, rows[0][name]))
        elif name in ("width", "height"):
            row[name] = chance.choice((None, 0, -1, -(2**31), 2**31 - 1, 1))
        elif name == "probability":
            row[name] = chance.choice(numbers)
        elif chance.random() < 0.3:
            row[name] = chance.choice((None, [chance.choice(numbers[4:])] * len(rows[0][name] or [0] * 4)))
        elif row[name]:
            row[name][chance.randrange(len(row[name]))] = chance.choice(numbers)
    with contextlib.suppress(pa.ArrowException):  # another count of numbers: no such file can be written
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def odd_npy(path: Path, chance: random.Random) -> None:
    """An array's header that says something else of the same numbers."""
    data = path.read_bytes()
    shape = chance.choice(
        ("(True, 4)", "(2, -4)", "(2, 4, 1)", "(8,)", "()", "(2, 4", "(10**9, 4)", "(2L, 4L)", "[2, 4]")
    )
    shape = chance.choice((shape, "(2.0, 4)", "('2', 4)", "(" * 99, f"({10**30}, 4)", "(0, 4)", "(2, 4)", "(4, 2)"))
    kind = chance.choice(
        ("'<f4'", "'>f4'", "'|O'", "'<f2'", "'|V4'", "'<U1'", "[('a', '<f4')]", "None", "'<M8[s]'", "'<c8'")
    )
    text = f"{{'descr': {kind}, 'fortran_order': {chance.choice(('False', 'True', '0', 'None'))}, 'shape': {shape}, }}"
    head = text.encode().ljust(118)[: chance.choice((117, 118, 118, 118))] + b"\n"
    path.write_bytes(data[:8] + len(head).to_bytes(2, "little") + head + data[128:])


def changed_store(original: Path, folder: Path, chance: random.Random) -> str:
    """A copy of a store, with one of its files changed and hashes that agree; which change it was."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(original, folder)
    kind = chance.choice(("manifest", "manifest", "text", "rows", "rows", "bytes", "header", "failures", "swap"))
    manifest = folder / "manifest.json"
    file = folder / chance.choice(("00000.npy", "00001.npy", "00000.parquet", "00001.parquet", "failures.jsonl"))
    if kind == "manifest":
        manifest.write_bytes(as_text(changed_json(json.loads(manifest.read_text()), chance)))
        return kind
    if kind == "text":
        manifest.write_bytes(changed_bytes(manifest.read_bytes(), chance))
        return kind
    if kind == "rows":
        changed_rows(folder / "00000.parquet", chance)
    elif kind == "bytes":
        file.write_bytes(changed_bytes(file.read_bytes(), chance))
    elif kind == "header":
        odd_npy(folder / "00001.npy", chance)
    elif kind == "failures":
        held = json.loads((folder / "failures.jsonl").read_text())
        (folder / "failures.jsonl").write_bytes(
            as_text(changed_json(held, chance)) + chance.choice((b"", b"\n", b"\n\n"))
        )
    else:
        shutil.copy(folder / chance.choice(("00000.npy", "00000.parquet", "failures.jsonl")), file.with_suffix(".x"))
        file.with_suffix(".x").replace(file)
    if chance.random() < 0.9:
        reseal(folder)
    return f"{kind} {file.name}"


def test_changed_stores(store: Path) -> None:
    chance, refused = random.Random(0), 0
    look_at_store(store)
    with watched(store.parent) as tried:
        for number in range(1200):
            folder = store.with_name("changed")
            change = (number, changed_store(store, folder, chance))
            refused += tried(lambda folder=folder: look_at_store(folder), change)
            if number % 10 == 0:
                tried(lambda folder=folder: load_templates(folder / "00001.npy"), change)
    assert 900 < refused < 1200


def test_changed_runs_are_resumed_or_begun_anew(store: Path) -> None:
    """A killed run's records: what they say wrongly is done again."""
    rows = Store.open(store).rows().to_pylist()
    templates = Store.open(store).templates()
    folder = store.with_name("run")

    def writer() -> StoreWriter:
        return StoreWriter(folder, {"n": 1}, store.parent, TINY, manifest={"score": "cosine"}, shard_rows=2)

    def resume(stop: bool = False) -> None:
        with writer() as run:
            if run.resume_inputs == 0:
                run.append(templates[:2], rows[:2], [], 2)
            if not stop:
                run.append(templates[2:], rows[2:], [], 4)
                run.finish()

    def written() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    resume(stop=True)
    begun = store.with_name("begun")
    shutil.copytree(folder, begun)
    resume()
    undisturbed = written()
    chance = random.Random(1)

    def resume_and_look() -> None:
        resume()
        assert written() == undisturbed

    with watched(store.parent) as tried:
        for _ in range(300):
            shutil.rmtree(folder)
            shutil.copytree(begun, folder)
            file = folder / chance.choice(("00000.done.json", "00000.done.json", "progress.json"))
            change = changed_json(json.loads(file.read_text()), chance)
            data = as_text(change) if chance.random() < 0.8 else changed_bytes(file.read_bytes(), chance)
            file.write_bytes(data)
            tried(resume_and_look, data)


# ---------------------------------------------------------------- fitted files, decoders, cards, contracts


def with_header(data: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """A safetensors file whose own header is another."""
    length = int.from_bytes(data[:8], "little")
    text = as_text(change(json.loads(data[8 : 8 + length])))
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def changed_tensors(path: Path, chance: random.Random) -> None:
    """A fitted file with another header of facedecode's (and the checksum to it), another of safetensors', or bytes."""
    data = path.read_bytes()
    kind = chance.random()
    if kind < 0.6:
        tensors = load_file(path)
        length = int.from_bytes(data[:8], "little")
        about = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["facedecode"])
        about = changed_json(about, chance)
        if kind < 0.15:
            name = chance.choice(list(tensors))
            odd = (np.zeros((0, 4)), np.full((2, 4), np.nan), np.zeros((), np.float32), np.zeros(9, np.int64))
            tensors[name] = chance.choice(odd).astype(chance.choice((np.float32, np.float64, np.float16)))
        if "sha256" in about:
            with contextlib.suppress(ValueError, TypeError):
                about["sha256"] = _checksum(about, tensors)
        save_file(tensors, path, metadata={"facedecode": json.dumps(about)})
    elif kind < 0.8:
        path.write_bytes(with_header(data, lambda held: changed_json(held, chance)))
    else:
        path.write_bytes(changed_bytes(data, chance))


def test_changed_fitted_files(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    report = {"provenance": {"parts": [{"people": ["Ann"], "precision": "fp32"}]}}
    Mapping(np.eye(4, dtype=np.float32), np.zeros(4, np.float32), "rotate30", recognizer=TINY, report=report).save(
        here / "map.safetensors"
    )
    sums = MappingSums("rotate30", TINY, [{"store": "a", "people": ["Ann"], "images": ["b"]}])
    sums.add(np.ones((3, 4)), np.ones((3, 4)), np.array([False, False, True]))
    sums.save(here / "sums.safetensors")
    path = here / "changed.safetensors"

    def look_at_map() -> None:
        check("mapping", str(path), {})
        mapping = load_mapping(path)
        mapping.apply(np.ones((2, mapping.dim), np.float32))
        json.dumps([mapping.fitted_on, mapping.precision, mapping.label, mapping.as_json()], allow_nan=False)

    def look_at_sums() -> None:
        check("mapping sums", str(path), {})
        held = load_sums(path)
        held.merge(MappingSums("rotate30", TINY, [{"store": "c", "people": ["Ann"]}]))

    chance, refused = random.Random(2), 0
    with watched(here) as tried:
        for number in range(1000):
            name, look = (("map", look_at_map), ("sums", look_at_sums))[number % 2]
            shutil.copy(here / f"{name}.safetensors", path)
            changed_tensors(path, chance)
            refused += tried(look, (number, name))
    assert 700 < refused < 1000


def test_changed_decoders(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    provenance = Provenance(TINY)
    nets = {
        "ridge": Ridge(4, 8),
        "dfd": DeepFaceDecoder(4, 64, widths=(2, 2, 2, 2, 2), coarse=4),
        "nearest": Nearest(4, 8, count=3),
    }
    for kind, net in nets.items():
        save_decoder(here / kind, kind, net, provenance)
    own = TemplateStatistics.of(np.random.default_rng(0).normal(3, 1, (40, 4)))
    save_decoder(here / "told", "ridge", Ridge(4, 8), Provenance(TINY, training=TrainingRecord(templates=own)))
    card = json.loads((here / "ridge" / "decoder.json").read_text())
    generator = {"file": "g.pt2", "sha256": "0" * 64, "latent": 5, "side": 64, "range": [-1, 1]}
    card |= {"kind": "latent", "config": {"dim": 4, "image_size": 64, "generator": generator}}
    (here / "latent").mkdir()
    save_file({"weight": np.zeros((5, 4), "f4"), "bias": np.zeros(5, "f4"), "frame": np.zeros((2, 3), "f4")},
              here / "latent" / "decoder.safetensors")  # fmt: skip
    (here / "latent" / "g.pt2").write_bytes(b"no program")
    card["sha256"] = sha256(here / "latent" / "decoder.safetensors")
    (here / "latent" / "decoder.json").write_text(json.dumps(card))
    folder = here / "changed"

    def look() -> None:
        check("decoder", str(folder), {})
        decoder = load_decoder(folder)
        assert decoder.decode(np.ones((1, decoder.dim), np.float32)).dtype == np.uint8
        repr(decoder), decoder.looked_through("tiny", "ab" * 32)
        decoder.require_recognizer(TINY, "it")

    chance, refused = random.Random(3), 0
    with watched(here) as tried:
        for number in range(600):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(here / chance.choice((*nets, "latent", "told", "told")), folder)
            path, tensors = folder / "decoder.json", folder / "decoder.safetensors"
            held = json.loads(path.read_text())
            kind = chance.random()
            if kind < 0.6:
                described = held.get("training", {}).get("templates")
                if described and kind < 0.4:
                    described[chance.choice(list(described))] = chance.choice(NUMBERS)
                    described["greatest"] = chance.choice((described["greatest"], *NUMBERS))
                    path.write_bytes(as_text(held))
                else:
                    path.write_bytes(as_text(changed_json(held, chance)))
            elif kind < 0.7:
                path.write_bytes(changed_bytes(path.read_bytes(), chance))
            else:
                data = tensors.read_bytes()
                tensors.write_bytes(
                    changed_bytes(data, chance)
                    if kind < 0.85
                    else with_header(data, lambda held: changed_json(held, chance))
                )
                path.write_bytes(as_text(held | {"sha256": sha256(tensors)}))
            refused += tried(look, (number, path.read_bytes()))
    assert 400 < refused < 600


def test_changed_recognizer_cards(tmp_path: Path) -> None:
    here = tmp_path / "here"
    folder, original = here / "changed", here / "tiny"
    original.mkdir(parents=True)
    config = {"size": 16, "dim": 4, "widths": [4, 4], "depths": [1, 1]}
    save_torch(SmallResNet(**config).state_dict(), original / "recognizer.safetensors")
    points = [[x / 7, y / 7] for x, y in ARCFACE_POINTS]
    recognizer = {
        "name": "tiny",
        "dim": 4,
        "score": "cosine",
        "license": "none",
        "input_size": 16,
        "channel_order": "RGB",
        "crop": PointCrop(16, tuple(map(tuple, points))).describe(),
        "normalization": {"mean": [127.5] * 3, "scale": 127.5},
        "training_people": ["Ann"],
        "weights_sha256": sha256(original / "recognizer.safetensors"),
    }
    card = {"recognizer": recognizer, "architecture": "small_resnet", "config": config, "classes": ["Ann", "Bob"]}
    (original / "recognizer.json").write_text(json.dumps(card | {"training": {}, "format_version": 1}))

    def look() -> None:
        check("model", str(folder), {})
        spec = find_spec_by_name(str(folder))
        made = Recognizer(spec, folder / "recognizer.safetensors")
        made.embed_crops(np.zeros((1, spec.crop.size, spec.crop.size, 3), np.uint8))
        json.dumps(made.describe().as_json())

    chance, refused = random.Random(4), 0
    with watched(here) as tried:
        for number in range(400):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(original, folder)
            path = folder / "recognizer.json"
            text = as_text(changed_json(json.loads(path.read_text()), chance))
            path.write_bytes(text if chance.random() < 0.8 else changed_bytes(path.read_bytes(), chance))
            refused += tried(look, (number, path.read_bytes()))
    assert 200 < refused < 400


def test_changed_contracts(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    contract = {"name": "mine", "size": 32, "crop": "box", "channels": "RGB", "mean": [127.5] * 3, "scale": 127.5}
    contract |= {
        "box_factor": 1.2,
        "box_side": "both",
        "score": "cosine",
        "license": "x",
        "threshold": 0.5,
        "layers": ["a"],
    }
    path = here / "net.pt2.json"

    def look() -> None:
        made = read_contract(here / "net.pt2", path)
        json.dumps(made.describe(), allow_nan=False)
        made.how_to_crop(made.size or 32)

    chance, refused = random.Random(5), 0
    with watched(here) as tried:
        for number in range(1000):
            text = as_text(changed_json(contract, chance))
            path.write_bytes(text if chance.random() < 0.8 else changed_bytes(as_text(contract), chance))
            refused += tried(look, (number, path.read_bytes()))
    assert 500 < refused < 1000


def test_changed_json_of_any_kind(tmp_path: Path) -> None:
    held = {"a": [1, 2.5, {"b": None}], "c": "ü", "d": {"e": [[], {}]}}
    chance, refused = random.Random(6), 0
    texts = [as_text(changed_json(held, chance)) for _ in range(500)]
    texts += [changed_bytes(as_text(held), chance) for _ in range(500)]
    texts += [
        b"[" * 10**6,
        b'{"x":' * 10**5,
        b"\xff\xfe{\0}\0",
        b"\xef\xbb\xbf{}",
        b'{"x": 1e999}',
        b'{"x": -Infinity}',
    ]
    with watched(tmp_path) as tried:
        for text in texts:
            refused += tried(lambda text=text: parse_json("it.json", text), text)
    assert 100 < refused < 1000
