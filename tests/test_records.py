"""Records read from JSON: what a border lets through, and what no change of a file can do."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from facedecode.decoders import Provenance, load_decoder, save_decoder
from facedecode.decoders.closed_form import Ridge
from facedecode.decoders.training_record import TrainingRecord
from facedecode.errors import BadInput
from facedecode.identity import RecognizerId, require_same_recognizer
from facedecode.mapping.maps import Mapping, load_mapping
from facedecode.mapping.sums import MappingSums, load_sums
from facedecode.records import Count, Limit, Record, migrated, parse_json
from facedecode.store import Processing, Store, StoreWriter, layout
from facedecode.tensor_file import Fitted, _checksum

TINY = RecognizerId("tiny", "ab" * 32, dim=4, score="cosine", training_people=("Ann", "Bob"))


@dataclass(frozen=True)
class Inner(Record):
    name: str
    share: float | None = None


@dataclass(frozen=True)
class Outer(Record):
    kind: Literal["a", "b"]
    count: Count
    pair: tuple[float, float]
    inner: tuple[Inner, ...] = ()
    even: Annotated[int, Limit(lambda n: n % 2 == 0, "even")] | None = None
    by_name: dict[str, int] = field(default_factory=dict)
    flag: bool = False
    further: dict[str, Any] = field(default_factory=dict)


GOOD = {"kind": "a", "count": 3, "pair": [1, 2.5], "inner": [{"name": "x"}], "by_name": {"n": 1}, "more": [1, {"x": 2}]}


def test_a_record_comes_back() -> None:
    outer = Outer.from_json("f.json", GOOD)
    assert outer == Outer("a", 3, (1, 2.5), (Inner("x"),), None, {"n": 1}, False, {"more": [1, {"x": 2}]})
    assert outer.as_json() == GOOD | {"flag": False}
    assert Outer.from_json("f.json", json.loads(json.dumps(outer.as_json()))) == outer


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "c"}, "field 'kind' is not a or b"),
        ({"kind": ["a"]}, "field 'kind' is not a or b"),
        ({"count": -1}, "field 'count' is not at least 0"),
        ({"count": True}, "field 'count' is not a whole number"),
        ({"count": 1.0}, "field 'count' is not a whole number"),
        ({"pair": [1]}, "field 'pair' is not a list of 2"),
        ({"pair": [1, "2"]}, "field 'pair.1' is not a number"),
        ({"pair": [1, float("nan")]}, "field 'pair.1' is not a number"),
        ({"inner": [{"name": "x"}, {}]}, "field 'inner.1.name' is missing"),
        ({"inner": [5]}, "field 'inner.0' is no JSON object"),
        ({"inner": {"name": "x"}}, "field 'inner' is not a list"),
        ({"even": 3}, "field 'even' is not even"),
        ({"by_name": {"n": None}}, "field 'by_name.n' is not a whole number"),
        ({"flag": 0}, "field 'flag' is not true or false"),
    ],
)
def test_a_malformed_field_is_named(change: dict, said: str) -> None:
    with pytest.raises(BadInput, match=rf"^f\.json: {said}; make it again$"):
        Outer.from_json("f.json", GOOD | change)


def test_what_is_no_object_is_refused() -> None:
    for value in (None, 5, [GOOD], "a"):
        with pytest.raises(BadInput, match=r"f\.json: is no JSON object"):
            Outer.from_json("f.json", value)
    deep: Any = 0
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(BadInput, match="nested too deeply"):
        Outer.from_json("f.json", GOOD | {"more": deep})
    for text in ("{", "[1]", '{"x": NaN}', '{"x": 1e999}', "[" * 100_000, b"\xff", '{"x": ' + "9" * 5000 + "}"):
        with pytest.raises(BadInput, match=r"f\.json: (not valid JSON|holds no JSON object)"):
            parse_json("f.json", text)


def test_few_bytes_of_json_do_not_become_gigabytes() -> None:
    for text in ('{"x": [' + "{}," * (1 << 21) + "{}]}", b'{"x": [' + b"[]," * (1 << 21) + b"[]]}"):
        with pytest.raises(BadInput, match=r"f\.json: more than 2,097,152 values"):
            parse_json("f.json", text)
    assert len(parse_json("f.json", json.dumps({"x": ["file"] * 500_000, "y": "z" * (1 << 22)}))["x"]) == 500_000


def test_a_shape_that_no_tensor_has_is_refused(mapping: Path) -> None:
    data = mapping.read_bytes()
    length = int.from_bytes(data[:8], "little")
    for shape in ([0, 2**62], [0, 2**62, 2**62], [0] + [1] * 99):
        head = json.loads(data[8 : 8 + length])
        end = max(entry["data_offsets"][1] for name, entry in head.items() if name != "__metadata__")
        offset = next(iter(head[name] for name in head if name != "__metadata__"))
        offset |= {"shape": shape}
        offset["data_offsets"], cut = [end, end], offset["data_offsets"]
        # Its bytes go, and what lay behind them moves up.
        rest = data[8 + length :]
        for name, entry in head.items():
            if name != "__metadata__" and entry is not offset and entry["data_offsets"][0] >= cut[1]:
                entry["data_offsets"] = [place - (cut[1] - cut[0]) for place in entry["data_offsets"]]
        offset["data_offsets"] = [end - (cut[1] - cut[0])] * 2
        text = json.dumps(head).encode()
        mapping.write_bytes(len(text).to_bytes(8, "little") + text + rest[: cut[0]] + rest[cut[1] :])
        with pytest.raises(BadInput, match="has a shape that no tensor has"):
            load_mapping(mapping)


@pytest.mark.parametrize(
    "name", ["", " a", "a/b", "..", ".", ".hidden", "a\\b", "a\nb", "a\x1b[31m", "x" * 201, "\ud800"]
)
def test_a_name_is_no_path(name: str) -> None:
    with pytest.raises(BadInput, match="field 'name' is not a name"):
        RecognizerId.from_json("m", {"name": name, "weights_sha256": None})


def test_names_that_are_used() -> None:
    for name in ("dlib-resnet", "onnx:mine.v2", "given:vendor", f"tiny+biohash@{'0' * 16}", "Zoë's own", "ξ"):
        assert RecognizerId.from_json("m", {"name": name, "weights_sha256": None}).name == name


def test_a_recognizer_is_written_as_it_was_read() -> None:
    held = {"name": "t", "weights_sha256": None, "dim": 4, "crop": {"kind": "box"}, "new": {"of": "later"}}
    read = RecognizerId.from_json("m", held)
    assert read.as_json() == held and read.further == {"new": {"of": "later"}}
    require_same_recognizer(read, replace(read, license="MIT"), "it")
    with pytest.raises(BadInput, match=r"it is for t \(weights sha256 abab.*come from t \(weights sha256 unknown\)"):
        require_same_recognizer(read, replace(read, weights_sha256="ab" * 32), "it")


# ---------------------------------------------------------------- migrations


def test_older_versions_are_brought_up_step_by_step() -> None:
    steps = {1: lambda old: old | {"b": old["a"] + 1}, 2: lambda old: old | {"c": old["b"] + 1}}
    assert migrated("f", {"v": 1, "a": 1}, "v", 3, steps, "x") == {"v": 3, "a": 1, "b": 2, "c": 3}
    assert migrated("f", {"v": 3}, "v", 3, steps, "x") == {"v": 3}
    for version in (0, 4, None, "1", True, 1.0):
        with pytest.raises(BadInput, match=r"f: format version .* and this facedecode reads 3; go"):
            migrated("f", {"v": version, "a": 1}, "v", 3, steps, "go")
    with pytest.raises(BadInput, match="malformed for its format version 1"):
        migrated("f", {"v": 1}, "v", 3, steps, "x")


def test_a_store_of_the_version_before_is_read(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that a next version could take: the score moves into an object."""

    def older(manifest: dict[str, Any]) -> dict[str, Any]:
        return {**manifest, "score": manifest["comparison"]["score"]}

    path = store / "manifest.json"
    manifest = json.loads(path.read_text())
    before = {key: value for key, value in manifest.items() if key != "score"}
    path.write_text(json.dumps(before | {"comparison": {"score": "negative-euclidean"}}))
    monkeypatch.setattr(layout, "FORMAT_VERSION", 2)
    monkeypatch.setattr(layout, "MIGRATIONS", {1: older})
    assert Store.open(store).score == "negative-euclidean"
    path.write_text(json.dumps(before))
    with pytest.raises(BadInput, match=r"manifest\.json: malformed for its format version 1"):
        Store.open(store)


def test_a_fitted_file_that_changed_is_refused(mapping: Path) -> None:
    content = mapping.read_bytes()
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 1
        mapping.write_bytes(changed)
        with pytest.raises(BadInput, match=r"m\.safetensors: "):
            load_mapping(mapping)


def test_a_mapping_without_a_checksum_is_read(mapping: Path) -> None:
    made = load_mapping(mapping)
    header, tensors = opened(mapping)
    header["version"] = 1
    del header["sha256"]
    save_file(tensors, mapping, metadata={"facedecode": json.dumps(header)})
    read = load_mapping(mapping)
    assert read.as_json() == made.as_json()
    np.testing.assert_array_equal(read.weight, made.weight)


# ---------------------------------------------------------------- no change ends as a bug


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with StoreWriter(tmp_path / "emb", {"n": 1}, tmp_path, TINY, manifest={"score": "cosine"}) as writer:
        writer.append(np.ones((3, 4), np.float32), [{"path": f"{k}.png", "identity": "Ann"} for k in range(3)], [], 3)
        writer.finish()
    return tmp_path / "emb"


@pytest.fixture
def mapping(tmp_path: Path) -> Path:
    report = {"provenance": {"parts": [{"people": ["Ann"], "precision": "fp32"}]}}
    made = Mapping(np.eye(4, dtype=np.float32), np.zeros(4, np.float32), "rotate30", recognizer=TINY, report=report)
    made.save(tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


@pytest.fixture
def decoder(tmp_path: Path) -> Path:
    record = {"people": ["Ann"], "settings": {"weights": {"pixel": 1}, "phi": ["tiny"]}, "phi": [TINY.as_json()]}
    provenance = Provenance(TINY, training=TrainingRecord.from_json("it", record))
    save_decoder(tmp_path / "d", "ridge", Ridge(4, 8), provenance)
    return tmp_path / "d"


def opened(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with safe_open(path, framework="numpy") as file:
        return json.loads(file.metadata()["facedecode"]), {name: file.get_tensor(name) for name in list(file.keys())}


ODD = (
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    10**400,
    "",
    "x",
    "../x",
    "\ud800",
    [],
    [1],
    [None],
    {},
    {"x": 1},
    [[]],
    "9" * 64,
)


def mutations(held: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The object with each of its values, however deep, removed, and with each replaced by odd ones."""

    def places(value: Any, path: tuple) -> Iterator[tuple]:
        if path:
            yield path
        for key, inner in (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        ):
            yield from places(inner, (*path, key))

    chance = random.Random(0)
    for path in places(held, ()):
        for odd in ("gone", *chance.sample(ODD, 5)):
            changed = copy.deepcopy(held)
            parent = changed
            for key in path[:-1]:
                parent = parent[key]
            if odd == "gone":
                del parent[path[-1]]
            else:
                parent[path[-1]] = odd
            yield changed


def look_at_store(folder: Path) -> None:
    from facedecode.provenance import describe_store
    from facedecode.store.processing import inherited, require_extracted

    store = Store.open(folder, verify=False)
    json.dumps([describe_store(store), inherited(store), store.manifest.as_json()], allow_nan=False)
    require_same_recognizer(store.recognizer, TINY, "it")
    require_extracted(store)


def fitted() -> dict[str, Fitted | MappingSums]:
    """One of each kind of fitted file, for templates of 4 numbers."""
    from facedecode.attributes.direction import Direction
    from facedecode.attributes.disentangler import Disentangler
    from facedecode.classifiers.classifier import Classifier
    from facedecode.inversion.confidence import Confidence

    eye, both = np.eye(4), np.tile(np.eye(4), (2, 1, 1))
    zeros, small = np.zeros((2, 4)), np.zeros(4, np.float32)
    grid = np.full((2, 2), 0.1, np.float32)
    report = {"people": ["Ann"], "provenance": {"people": ["Ann"], "parts": [{"people": ["Ann"], "precision": "fp32"}]}}
    more = {"recognizer": TINY, "report": report}
    sums = MappingSums("rotate30", TINY, [{"store": "a", "people": ["Ann"], "images": ["b"]}])
    sums.add(np.ones((3, 4)), np.ones((3, 4)), np.array([False, False, True]))
    return {
        "mapping": Mapping(eye.astype(np.float32), small, "rotate30", **more),
        "direction": Direction(eye[0].astype(np.float32), "gender", "F", "M", (0.0, 1.0), **more),
        "classifier": Classifier(np.eye(2, 4, dtype=np.float32), small[:2], ("Ann", "Bob"), **more),
        "disentangler": Disentangler("gender", ("F", "M"), zeros, both, both, both, np.zeros(4), zeros, eye, **more),
        "confidence": Confidence(
            np.zeros((4, 4), np.float32), small, grid, grid, {"kind": "dfd", "sha256": "cd" * 32}, **more
        ),
        "sums": sums,
    }


def look_at_fitted(path: Path, kind: type) -> None:
    if kind is MappingSums:
        sums = load_sums(path)
        sums.merge(MappingSums("rotate30", TINY, [{"store": "c", "people": ["Ann"]}]))
        return
    made = kind.load(path)
    made.save(path.with_name("again.safetensors"))
    made.require_recognizer(TINY)
    json.dumps([getattr(made, name, None) for name in ("fitted_on", "precision", "people")])
    if isinstance(made, Mapping):
        made.require_templates(TINY, Processing(), "it")
    if hasattr(made, "require_decoder"):
        made.require_decoder({"kind": "dfd", "sha256": "cd" * 32}, TINY)


def look_at_decoder(folder: Path) -> None:
    from facedecode.provenance import describe_decoder

    decoder = load_decoder(folder)
    json.dumps(describe_decoder(decoder))
    decoder.looked_through("tiny", "ab" * 32)
    decoder.require_recognizer(TINY, "it")
    decoder.decode(np.ones((1, decoder.dim), np.float32))


def tried(changed: dict[str, Any], look: Callable[[], None]) -> bool:
    """Whether a changed file was refused; an error other than BadInput is a bug."""
    try:
        look()
    except BadInput as error:
        assert "\n" not in str(error)
        return True
    except Exception as error:
        pytest.fail(f"{json.dumps(changed)[:500]} ends as {type(error).__name__}: {error}")
    return False


def test_no_changed_manifest_is_a_bug(store: Path) -> None:
    path = store / "manifest.json"
    refused = 0
    for changed in mutations(json.loads(path.read_text())):
        path.write_text(json.dumps(changed))
        refused += tried(changed, lambda: look_at_store(store))
    assert refused > 100


@pytest.mark.parametrize("name", ["mapping", "direction", "classifier", "disentangler", "confidence", "sums"])
def test_no_changed_header_is_a_bug(name: str, tmp_path: Path) -> None:
    made, path = fitted()[name], tmp_path / "m.safetensors"
    made.save(path)
    header, tensors = opened(path)
    refused = 0
    for changed in mutations(header):
        changed["sha256"] = _checksum(changed, tensors)
        save_file(tensors, path, metadata={"facedecode": json.dumps(changed)})
        refused += tried(changed, lambda: look_at_fitted(path, type(made)))
    assert refused > 40


def test_no_changed_decoder_is_a_bug(decoder: Path) -> None:
    path = decoder / "decoder.json"
    refused = 0
    for changed in mutations(json.loads(path.read_text())):
        path.write_text(json.dumps(changed))
        refused += tried(changed, lambda: look_at_decoder(decoder))
    assert refused > 100


def test_a_decoder_has_no_more_bytes_than_its_network_needs(decoder: Path) -> None:
    with (decoder / "decoder.safetensors").open("ab") as file:
        file.truncate(1 << 33)  # nothing on the disk
    with pytest.raises(BadInput, match=r"decoder\.safetensors: 8,589,934,592 bytes or more, and at most"):
        load_decoder(decoder)
