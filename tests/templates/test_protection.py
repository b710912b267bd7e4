"""Template protection: schemes against what is known of them, keys, and stores made by `transform`."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy import stats
from typer.testing import CliRunner, Result

from facedecode.cli import app
from facedecode.errors import BadInput, FacedecodeWarning, MissingWeights, OutputError, UsageError
from facedecode.files import json_text
from facedecode.identity import RecognizerId
from facedecode.mapping.maps import Mapping, load_mapping
from facedecode.statistics.scores import mated_non_mated_scores, score_matrix, score_pairs
from facedecode.store import Store, StoreWriter
from facedecode.templates import transformation
from facedecode.templates.jobs import TransformJob
from facedecode.templates.protection import (
    key_id,
    make_scheme,
    new_key,
    orthonormal_rows,
    protected_recognizer,
    read_key,
    write_key,
)
from facedecode.templates.transformation import mapping_operation, protection_operation, transform_store
from facedecode.training.decoder import train_store
from facedecode.training.jobs import DecoderJob, LossWeights, TrainSettings

KEY, OTHER = b"0123456789abcdef", b"fedcba9876543210"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def some_templates(n: int = 200, dim: int = 24, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# Schemes


def test_rotation_keeps_scores_and_lengths():
    templates = some_templates() + 3
    rotated = make_scheme("rotation", KEY, 24, "cosine").protect(templates)
    assert np.abs(rotated - templates).max() > 1
    for kind in ("cosine", "negative-euclidean"):
        assert score_matrix(rotated, rotated, kind) == pytest.approx(score_matrix(templates, templates, kind), abs=2e-5)
    assert np.linalg.norm(rotated, axis=1) == pytest.approx(np.linalg.norm(templates, axis=1), rel=1e-6)


def test_directions_are_the_keys_and_orthonormal():
    rows = orthonormal_rows(KEY, "biohash", 60, 24)
    for start in (0, 24, 48):
        block = rows[start : start + 24]
        assert block @ block.T == pytest.approx(np.eye(len(block)), abs=1e-12)
    assert np.array_equal(rows[:24], orthonormal_rows(KEY, "biohash", 24, 24))
    for another in (orthonormal_rows(OTHER, "biohash", 60, 24), orthonormal_rows(KEY, "rotation", 60, 24)):
        assert np.abs(another - rows).max() > 0.1


def test_directions_are_uniform():
    # The first entry of a uniform direction in d dimensions, squared, is Beta(1/2, (d - 1)/2); its sign is fair.
    entries = np.array([orthonormal_rows(b"%16d" % k, "rotation", 6, 6)[[0, 3, 5], [0, 2, 5]] for k in range(400)])
    for column in entries.T:
        assert stats.kstest(column**2, stats.beta(0.5, 2.5).cdf).pvalue > 1e-3
        assert abs(np.mean(column > 0) - 0.5) < 0.1
    determinants = [np.linalg.det(orthonormal_rows(b"%16d" % k, "rotation", 6, 6)) > 0 for k in range(400)]
    assert abs(np.mean(determinants) - 0.5) < 0.1


def test_the_generator_is_the_one_that_is_documented():
    stream = hashlib.shake_256(b"facedecode protection\0rotation 2 0\0" + KEY).digest(32)
    u = [((int.from_bytes(stream[i : i + 8], "big") >> 11) + 0.5) / 2**53 for i in range(0, 32, 8)]
    pairs = [(math.sqrt(-2 * math.log(u[k])), 2 * math.pi * u[2 + k]) for k in range(2)]
    gauss = np.array([r * math.cos(a) for r, a in pairs] + [r * math.sin(a) for r, a in pairs]).reshape(2, 2)
    # Gram and Schmidt on the columns: a QR decomposition whose R has a positive diagonal.
    first = gauss[:, 0] / np.linalg.norm(gauss[:, 0])
    second = gauss[:, 1] - first * (first @ gauss[:, 1])
    expected = np.stack([first, second / np.linalg.norm(second)], axis=1)
    assert orthonormal_rows(KEY, "rotation", 2, 2) == pytest.approx(expected, abs=1e-12)


def test_bits_differ_as_often_as_the_angle_says():
    # A uniform direction parts two vectors with probability angle / π (Goemans and Williamson 1995).
    a, b = some_templates(6, 64, 1), some_templates(6, 64, 2)
    a[3:] += 2 * b[3:]
    scheme = make_scheme("biohash", KEY, 64, "cosine", bits=1024)
    share = -score_pairs(scheme.protect(a), scheme.protect(b), "negative-hamming")
    angles = np.arccos(score_pairs(a, b, "cosine").astype(float)) / np.pi
    assert share == pytest.approx(angles, abs=0.06)


def test_a_center_is_taken_off_before_the_signs():
    templates, center = some_templates(), np.full(24, 2.0)
    plain = make_scheme("biohash", KEY, 24, "cosine").protect(templates)
    moved = make_scheme("biohash", KEY, 24, "cosine", center=center).protect(templates.astype(np.float64) + center)
    assert set(np.unique(plain)) == {-1, 1}
    assert np.array_equal(moved, plain)
    far_off = make_scheme("biohash", KEY, 24, "cosine").protect(templates + 20)
    assert np.abs(far_off.mean(axis=0)).mean() > 0.9 > np.abs(plain.mean(axis=0)).mean()


def test_the_description_has_the_keys_id_and_not_the_key():
    described = make_scheme("biohash", KEY, 24, "cosine", bits=16).describe()
    assert described == {"scheme": "biohash", "dim": 16, "key_id": key_id(KEY), "center_sha256": None}
    assert key_id(KEY) == hashlib.sha256(b"facedecode key id" + KEY).hexdigest()[:16]
    assert key_id(KEY) != key_id(OTHER)


@pytest.mark.parametrize(
    ("name", "options", "error", "said"),
    [
        ("rot13", {}, UsageError, "known: rotation, biohash"),
        ("rotation", {"bits": 24}, UsageError, "leave --bits"),
        ("rotation", {"center": np.zeros(24)}, UsageError, "--center"),
        ("biohash", {"bits": 7}, UsageError, "8 to 384 bits"),
        ("biohash", {"bits": 385}, UsageError, "8 to 384 bits"),
        ("biohash", {"center": np.zeros(23)}, BadInput, "24 finite numbers"),
        ("biohash", {"center": np.full(24, np.nan)}, BadInput, "24 finite numbers"),
    ],
)
def test_schemes_that_make_no_sense(name, options, error, said):
    with pytest.raises(error, match=said):
        make_scheme(name, KEY, 24, "cosine", **options)


def test_templates_of_another_length_are_refused():
    with pytest.raises(BadInput, match=r"\(n, 24\), not \(2, 23\)"):
        make_scheme("rotation", KEY, 24, "cosine").protect(np.zeros((2, 23)))


# The Hamming score


def test_hamming_scores_equal_a_count_and_never_split_ties():
    bits = np.where(some_templates(40, 37) > 0, 1, -1).astype(np.float32)
    names = [f"p{k % 8}" for k in range(40)]
    expected = -np.array([[np.mean(a != b) for b in bits] for a in bits])
    matrix = score_matrix(bits, bits, "negative-hamming")
    assert matrix == pytest.approx(expected, abs=1e-7)
    left, right = np.divmod(np.arange(1600), 40)
    one_by_one = score_pairs(bits[left], bits[right], "negative-hamming").reshape(40, 40)
    assert np.array_equal(one_by_one, matrix)
    assert len(np.unique(matrix)) == len(np.unique(np.rint(-37 * expected)))
    pairs = mated_non_mated_scores(bits, names, "negative-hamming")
    assert set(np.unique(pairs.non_mated)) <= set(np.unique(matrix))


def test_hamming_scores_are_of_signs_only():
    with pytest.raises(BadInput, match=r"template 1 has other numbers than \+1 and -1"):
        score_matrix(np.ones((2, 3)), np.array([[1.0, -1, 1], [1, 0, 1]]), "negative-hamming")


# Keys


def test_a_new_key_is_its_owners_and_never_replaced(tmp_path):
    key = new_key()
    write_key(tmp_path / "k", key)
    assert read_key(tmp_path / "k") == key
    assert len(key) == 32
    assert key != new_key()
    assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o600
    with pytest.raises(OutputError, match="is there already, and a key is not replaced"):
        write_key(tmp_path / "k", new_key())
    assert read_key(tmp_path / "k") == key
    with pytest.raises(OutputError, match="cannot write"):
        write_key(tmp_path / "no" / "k", key)


def test_a_key_that_could_not_be_written_leaves_no_part_of_it(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_key(tmp_path / "k", new_key())
    assert not (tmp_path / "k").exists()


@pytest.mark.parametrize(
    ("data", "said"), [(None, "no such key file"), (b"", "0 bytes"), (b"x" * 15, "15 bytes"), (b"x" * 5000, "4096")]
)
def test_keys_that_are_none(tmp_path, data, said):
    if data is not None:
        (tmp_path / "k").write_bytes(data)
    with pytest.raises(BadInput, match=f"k: .*{said}"):
        read_key(tmp_path / "k")
    with pytest.raises(BadInput, match="not a regular file"):
        read_key(tmp_path)


# Stores


def test_a_protected_store_has_the_rows_and_failures_of_its_source(tiny_store, tmp_path):
    source = with_failures(tiny_store, tmp_path / "source")
    operation = protection_operation(source, "rotation", KEY)
    assert transform_store(source, tmp_path / "out", operation).count == 30
    made = Store.open(tmp_path / "out")
    assert made.rows().equals(source.rows())
    assert made.failures() == source.failures()
    assert made.root == source.root
    expected = make_scheme("rotation", KEY, 16, "negative-euclidean").protect(source.templates())
    assert np.array_equal(made.templates(), expected)
    assert made.score == made.recognizer.score == "negative-euclidean"
    assert made.recognizer.name == f"tiny+rotation@{key_id(KEY)}"
    assert made.recognizer.unprotected == source.recognizer
    everything = b"".join(content(tmp_path / "out").values())
    assert KEY not in everything
    assert KEY.hex().encode() not in everything


def test_a_killed_run_resumes_to_the_same_bytes(tiny_store, tmp_path):
    source = with_failures(tiny_store, tmp_path / "source")
    operation = protection_operation(source, "rotation", KEY)
    transform_store(source, tmp_path / "whole", operation)

    def killed(templates):
        if (tmp_path / "cut" / "00000.npy").exists():
            raise KeyboardInterrupt
        return operation.apply(templates)

    cut = type(operation)("protection", killed, operation.recognizer, operation.score, operation.about)
    with pytest.raises(KeyboardInterrupt):
        transform_store(source, tmp_path / "cut", cut)
    assert not (tmp_path / "cut" / "manifest.json").exists()
    assert transform_store(source, tmp_path / "cut", operation).resumed == 16
    assert content(tmp_path / "cut") == content(tmp_path / "whole")
    assert transform_store(source, tmp_path / "cut", operation).resumed == 30


def test_another_key_is_another_output(tiny_store, tmp_path):
    source = Store.open(tiny_store)
    transform_store(source, tmp_path / "out", protection_operation(source, "rotation", KEY))
    before = content(tmp_path / "out")
    other = protection_operation(source, "rotation", OTHER)
    with pytest.raises(OutputError, match="made with other settings"):
        transform_store(source, tmp_path / "out", other)
    assert content(tmp_path / "out") == before
    transform_store(source, tmp_path / "out", other, overwrite=True)
    assert Store.open(tmp_path / "out").recognizer.protection["key_id"] == key_id(OTHER)


def test_a_store_is_not_written_over_itself_or_protected_twice(tiny_store, tmp_path):
    source = Store.open(tiny_store)
    operation = protection_operation(source, "rotation", KEY)
    before = content(tiny_store)
    with pytest.raises(OutputError, match="is the store that is to be read"):
        transform_store(source, tiny_store, operation, overwrite=True)
    assert content(tiny_store) == before
    transform_store(source, tmp_path / "out", operation)
    with pytest.raises(BadInput, match="its templates are protected"):
        protection_operation(Store.open(tmp_path / "out"), "rotation", KEY)


def test_a_center_comes_from_a_public_store(tiny_store, tmp_path):
    source = Store.open(tiny_store)
    people = tmp_path / "people.txt"
    people.write_text("2\nP1\t3\nP4\t3\n")
    operation = protection_operation(source, "biohash", KEY, bits=40, public=source, public_people=people)
    chosen = [name in ("P1", "P4") for name in source.identities()]
    center = source.templates()[chosen].mean(axis=0, dtype=np.float64)
    scheme = make_scheme("biohash", KEY, 16, "negative-euclidean", bits=40, center=center)
    assert np.array_equal(operation.apply(source.templates()), scheme.protect(source.templates()))
    of = hashlib.sha256(json_text({"people": ["P1", "P4"], "paths": []}).encode()).hexdigest()
    assert operation.about["center"] == {"store": source.fingerprint, "images": 6, "of_sha256": of}
    transform_store(source, tmp_path / "out", operation)
    made = Store.open(tmp_path / "out").manifest.as_json()
    assert made["center_of"] == {"people": ["P1", "P4"], "paths": []}
    assert "P4" not in json_text(made["recognizer"])
    assert operation.about["center_sha256"] == scheme.describe()["center_sha256"]


def test_templates_off_center_are_warned_of(tiny_store, tmp_path):
    source = Store.open(tiny_store)
    shifted = source.templates() + 5
    with StoreWriter(tmp_path / "off", {}, source.root, source.recognizer, manifest={"score": "cosine"}) as writer:
        writer.append(shifted, source.rows().to_pylist(), [], 30)
        writer.finish()
    with pytest.warns(FacedecodeWarning, match="the same for everybody"):
        protection_operation(Store.open(tmp_path / "off"), "biohash", KEY)


def test_each_part_of_a_protection_makes_another_recognizer():
    tiny = RecognizerId("tiny", "ab" * 32)
    base = {"scheme": "biohash", "dim": 16, "key_id": "00", "center_sha256": None}
    changes = [{}, {"scheme": "rotation"}, {"dim": 17}, {"key_id": "01"}, {"center_sha256": "cd"}]
    made = [protected_recognizer(tiny, base | change, 16, "cosine") for change in changes]
    made.append(protected_recognizer(replace(tiny, weights_sha256="ef" * 32), base, 16, "cosine"))
    assert len({recognizer.weights_sha256 for recognizer in made}) == 6
    assert made[0].name == "tiny+biohash@00"


@pytest.fixture
def keyed(tiny_store, tmp_path) -> tuple[Path, Path]:
    """Two stores of biohashes, under KEY and OTHER."""
    folders = tmp_path / "k1", tmp_path / "k2"
    source = Store.open(tiny_store)
    for folder, key in zip(folders, (KEY, OTHER), strict=True):
        transform_store(source, folder, protection_operation(source, "biohash", key, bits=64, public=source))
    return folders


def train(store: Path, output: Path, **options) -> None:
    settings = TrainSettings(image_size=64, epochs=0.1, batch_size=2)
    train_store(DecoderJob(store=store, output=output, settings=settings, **options))


def test_decoders_are_for_the_templates_of_one_key(keyed, tiny_store, tmp_path):
    one, other = keyed
    train(one, tmp_path / "ridge", architecture="ridge")
    drawn = call("invert", one, "-o", tmp_path / "own.png", "--decoder", tmp_path / "ridge")
    assert drawn.exit_code == 0, drawn.output
    assert "no scores" in drawn.stderr
    for store in (other, tiny_store):
        refused = call("invert", store, "-o", tmp_path / "x.png", "--decoder", tmp_path / "ridge")
        assert refused.exit_code == 4
        assert key_id(KEY) in refused.stderr
    train(tiny_store, tmp_path / "plain", architecture="ridge")
    assert call("invert", one, "-o", tmp_path / "x.png", "--decoder", tmp_path / "plain").exit_code == 4
    assert call("invert", one, "-o", tmp_path / "x.png").exit_code == 3  # none is shipped
    assert not (tmp_path / "x.png").exists()


def test_a_network_cannot_have_terms_of_a_recognizer_there(keyed, tmp_path):
    with pytest.raises(MissingWeights, match="--identity-weight 0 --perceptual-weight 0 --no-mirror"):
        train(keyed[0], tmp_path / "dfd")
    settings = TrainSettings(
        weights=LossWeights(identity=0, perceptual=0), mirror=False, image_size=64, epochs=0.1, batch_size=4
    )
    assert train_store(DecoderJob(keyed[0], tmp_path / "dfd", settings=settings)).kind == "dfd"


def test_a_mapping_maps_a_store_and_nothing_else(keyed, tiny_store, tmp_path):
    source = Store.open(tiny_store)
    weight, bias = np.eye(16, dtype=np.float32) * 2, np.ones(16, np.float32)
    Mapping(weight, bias, "rotate30", recognizer=source.recognizer).save(tmp_path / "m.safetensors")
    with pytest.warns(FacedecodeWarning, match="undoes rotate30"):
        operation = mapping_operation(source, load_mapping(tmp_path / "m.safetensors"))
    transform_store(source, tmp_path / "mapped", operation)
    mapped = Store.open(tmp_path / "mapped")
    assert mapped.templates() == pytest.approx(2 * source.templates() + 1, rel=1e-6)
    assert mapped.recognizer == source.recognizer
    assert mapped.manifest.mapping["undoes"] == "rotate30"
    with pytest.raises(BadInput, match=r"this mapping is for tiny .* come from tiny"):
        mapping_operation(Store.open(keyed[0]), load_mapping(tmp_path / "m.safetensors"))


# The command


def test_the_command_makes_a_key_and_a_store(tiny_store, tmp_path):
    made = call("transform", tiny_store, "-o", tmp_path / "a", "--protect", "rotation", "--new-key", tmp_path / "k")
    assert made.exit_code == 0, made.output
    assert made.stdout == ""
    found = call(
        "transform", tiny_store, "-o", tmp_path / "b", "--protect", "rotation", "--key-file", tmp_path / "k", "--json"
    )
    assert json.loads(found.stdout)["metrics"] == {"count": 30}
    assert content(tmp_path / "a") == content(tmp_path / "b")
    scored = call("evaluate", "verification", tmp_path / "a", "--help")
    assert scored.exit_code == 0


@pytest.mark.parametrize("when", ["before its key", "after its key", "at its end"])
def test_a_killed_command_takes_up_its_own_new_key_and_no_other(tiny_store, tmp_path, monkeypatch, when):
    command = ("transform", tiny_store, "--protect", "rotation", "-o", tmp_path / "a", "--new-key")

    def killed(*arguments: object) -> None:
        raise GeneratorExit

    with monkeypatch.context() as patch, pytest.raises(GeneratorExit):
        if when == "before its key":
            patch.setattr(transformation, "write_key", killed)
        elif when == "after its key":
            patch.setattr(StoreWriter, "append", killed)
        else:
            patch.setattr(StoreWriter, "finish", killed)
        CliRunner().invoke(app, [str(a) for a in (*command, tmp_path / "k")], standalone_mode=False)
    assert (tmp_path / "k").exists() == (when != "before its key")
    (tmp_path / "foreign").write_bytes(new_key())
    assert call(*command, tmp_path / "foreign").exit_code == 4
    if when == "at its end":  # there are templates under the key
        assert call(*command, tmp_path / "another").exit_code == 4
    for _ in range(2):  # what is done is done
        done = call(*command, tmp_path / "k")
        assert done.exit_code == 0, done.output
    assert Store.open(tmp_path / "a").recognizer.protection["key_id"] == key_id(read_key(tmp_path / "k"))
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["foreign", "k", "tiny.safetensors"]
    before = read_key(tmp_path / "k")
    assert call(*command, tmp_path / "k", "--overwrite").exit_code == 4
    assert read_key(tmp_path / "k") == before


def test_a_key_is_made_only_for_an_output_that_can_be_written(tiny_store, tmp_path):
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("mine")
    protected_store = ("transform", tiny_store, "--protect", "rotation", "-o")
    assert call(*protected_store, tmp_path / "a", "--new-key", tmp_path / "k").exit_code == 0
    for output in (tmp_path / "foreign", tmp_path / "a", tmp_path / "a" / "inside", tiny_store):
        refused = call(*protected_store, output, "--new-key", tmp_path / "orphan")
        assert refused.exit_code == 4, refused.output
        assert not (tmp_path / "orphan").exists()
    before = content(tiny_store)
    (tmp_path / "b").mkdir()
    for key, code, said in (
        (tmp_path / "b" / "k", 2, "keep the key apart from the templates"),
        (tiny_store / "k", 2, "keep the key apart from the templates"),
        (tmp_path / "nowhere" / "k", 4, "nowhere"),
    ):
        refused = call(*protected_store, tmp_path / "b", "--new-key", key)
        assert refused.exit_code == code and said in refused.stderr, refused.stderr
        assert not list((tmp_path / "b").iterdir()) and not (tmp_path / "nowhere").exists()
    assert content(tiny_store) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protect": "rotation", "mapping": Path("m")}, "one of --protect, --mapping and --disentangle"),
        ({"protect": "biohash", "key_file": Path("k"), "center_people": Path("p")}, "give --center"),
        ({"mapping": Path("m"), "key_file": Path("k")}, "go with --protect"),
        ({"mapping": Path("m"), "dependent": "keep"}, "go with --disentangle"),
        ({"mapping": Path("m"), "components": 3}, "--components"),
        ({"disentangle": Path("d"), "part": "identity", "dependent": "keep"}, "give one"),
        ({"protect": "rot13", "key_file": Path("k")}, "use rotation or biohash"),
    ],
)
def test_options_that_exclude_one_another(options, message):
    with pytest.raises(UsageError, match=message):
        TransformJob(Path("emb"), Path("out"), **options)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ([], 2, "one of --protect, --mapping and --disentangle"),
        (["--protect", "rotation"], 2, "one of --key-file and --new-key"),
        (["--protect", "rotation", "--key-file", "k", "--new-key", "l"], 2, "one of --key-file and --new-key"),
        (["--protect", "rotation", "--key-file", "k", "--bits", "64"], 2, "leave --bits"),
        (["--protect", "biohash", "--key-file", "k", "--bits", "4"], 2, "8 to 256 bits"),
        (["--protect", "rot13", "--new-key", "l"], 2, "use rotation or biohash"),
        (["--mapping", "n"], 4, "n: no such mapping"),
        (["--protect", "rotation", "--key-file", "missing"], 4, "missing: no such file"),
        (["--protect", "rotation", "--key-file", "short"], 4, "short: a key of 3 bytes"),
        (["--protect", "rotation", "--new-key", "k"], 4, "is there already"),
    ],
)
def test_one_line_for_each_mistake(tiny_store, tmp_path, monkeypatch, options, code, said):
    monkeypatch.chdir(tmp_path)
    Path("k").write_bytes(KEY)
    Path("short").write_bytes(b"abc")
    save_file({}, "m", {"facedecode": '{"format": "facedecode-mapping"}'})
    result = call("transform", tiny_store, "-o", "out", *options)
    assert result.exit_code == code
    assert said in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert not Path("out").exists()
    assert not Path("l").exists()  # no key is left behind
    assert Path("k").read_bytes() == KEY


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_key_that_cannot_be_read(tmp_path):
    (tmp_path / "k").write_bytes(KEY)
    (tmp_path / "k").chmod(0)
    with pytest.raises(BadInput, match="cannot be read"):
        read_key(tmp_path / "k")


def with_failures(store: Path, folder: Path) -> Store:
    """The store again, in shards of 16 rows, and with a failure."""
    source = Store.open(store)
    templates, rows = source.templates(), source.rows().to_pylist()
    failures = [{"path": "P0/lost.png", "stage": "detect", "reason": "no face found"}]
    manifest = {"score": source.score, "transform": None, "precision": "fp32", "l2_normalized": False}
    with StoreWriter(folder, {}, source.root, source.recognizer, shard_rows=16, manifest=manifest) as writer:
        writer.append(templates[:16], rows[:16], failures, 17)
        writer.append(templates[16:], rows[16:], [], 31)
        writer.finish()
    return Store.open(folder)
