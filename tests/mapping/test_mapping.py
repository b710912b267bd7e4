"""Mappings in template space: the solver against other solvers, held-out people, files and their refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from facedecode.errors import BadInput, FacedecodeWarning, OutputError, UsageError
from facedecode.identity import RecognizerId
from facedecode.mapping.least_squares import GramAccumulator
from facedecode.mapping.maps import Mapping, fit_mapping, load_mapping
from facedecode.store import Processing

DLIB = RecognizerId("dlib-resnet", "ab" * 32, score="negative-euclidean")


def data(n: int, d: int, seed: int = 0, noise: float = 0.0) -> tuple[np.ndarray, ...]:
    """Perturbed and original templates, float64 (n, d), and the weight and the bias that join them."""
    random = np.random.default_rng(seed)
    weight, bias = np.eye(d) + random.normal(size=(d, d)) / 4, random.normal(size=d)
    perturbed = random.normal(size=(n, d)) + 3
    return perturbed, perturbed @ weight.T + bias + noise * random.normal(size=(n, d)), weight, bias


def lstsq(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    theta = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)[0]
    return theta[:-1].T, theta[-1]


def accumulate(x: np.ndarray, y: np.ndarray, sizes: tuple[int, ...] = ()) -> GramAccumulator:
    gram = GramAccumulator(x.shape[1], y.shape[1])
    cuts = np.cumsum(sizes) if sizes else []
    for part_x, part_y in zip(np.split(x, cuts), np.split(y, cuts), strict=True):
        gram.add(part_x, part_y)
    return gram


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def example(d: int = 4) -> Mapping:
    perturbed, original, _, _ = data(200, d, noise=0.1)
    held_out = np.arange(200) % 10 == 0
    return fit_mapping(
        [(perturbed, original, held_out)], "rotate30", replace(DLIB, dim=d), provenance={"store": "ef" * 32}
    )


# The solver


def test_finds_a_known_affine_map() -> None:
    perturbed, original, weight, bias = data(400, 32)
    solution = accumulate(perturbed, original).solve()
    np.testing.assert_allclose(solution.weight, weight, atol=1e-12)
    np.testing.assert_allclose(solution.bias, bias, atol=1e-11)
    mapping = fit_mapping([(perturbed, original, np.zeros(400, bool))], "rotate30", DLIB)
    np.testing.assert_allclose(mapping.weight, weight, atol=1e-6)
    np.testing.assert_allclose(mapping.bias, bias, atol=1e-6)
    assert mapping.report["training"]["residual"] < 1e-10


@pytest.mark.parametrize(("n", "d_in", "d_out"), [(500, 20, 20), (3000, 7, 11), (41, 40, 3)])
def test_equals_lstsq(n: int, d_in: int, d_out: int) -> None:
    random = np.random.default_rng(n)
    x, y = random.normal(size=(n, d_in)) * np.linspace(1, 30, d_in) + 5, random.normal(size=(n, d_out)) - 2
    solution = accumulate(x, y).solve()
    weight, bias = lstsq(x, y)
    tolerance = 1e-9 if n > d_in + 1 else 1e-7  # nothing to spare: badly conditioned by construction
    assert relative_error(solution.weight, weight) < tolerance
    assert relative_error(solution.bias, bias) < tolerance
    singular = np.linalg.svd(x - x.mean(axis=0), compute_uv=False)
    assert solution.rank == d_in
    assert solution.condition == pytest.approx(singular[0] / singular[-1], rel=1e-6)


def test_a_large_common_offset_costs_no_digits() -> None:
    random = np.random.default_rng(3)
    x = random.normal(size=(2000, 8))
    y = x @ random.normal(size=(8, 8)) + random.normal(size=(2000, 8))
    near = accumulate(x, y, (1, 999)).solve()
    far = accumulate(x + 2.0**10, y - 2.0**10, (1, 999)).solve()
    assert relative_error(far.weight, near.weight) < 1e-9


def test_what_is_rounding_is_not_read() -> None:
    """Templates of few true dimensions in float32, as dlib-resnet's are: maps stay small, and can be composed."""
    random = np.random.default_rng(4)
    basis = np.linalg.qr(random.normal(size=(40, 40)))[0] * np.logspace(-1, -7, 40)
    faces, step = random.normal(size=(4000, 40)), np.eye(40) + 0.1 * random.normal(size=(40, 40)) / np.sqrt(40)
    offset = random.normal(size=40) * 0.2

    def templates(times: int) -> np.ndarray:
        noise = 3e-7 * random.normal(size=faces.shape)
        return (faces @ np.linalg.matrix_power(step, times).T @ basis.T + offset + noise).astype(np.float32)

    original, once, twice = (templates(k) for k in range(3))
    with pytest.warns(FacedecodeWarning, match=r"vary in 2\d of 40 directions"):
        fitted = fit_mapping([(once[:3000], original[:3000], np.zeros(3000, bool))], "rotate30", DLIB)
    weight, bias = lstsq(*(part[:3000].astype(np.float64) for part in (once, original)))
    weight, bias = weight.astype(np.float32), bias.astype(np.float32)
    moved = np.sum((original[3000:] - twice[3000:]) ** 2)
    composed = fitted.apply(fitted.apply(twice[3000:]))
    read = (twice[3000:] @ weight.T + bias) @ weight.T + bias
    assert np.sum((original[3000:] - composed) ** 2) < 0.5 * moved
    assert np.sum((original[3000:] - read) ** 2) > 2 * np.sum((original[3000:] - composed) ** 2)
    assert np.linalg.norm(weight, 2) > 20 * np.linalg.norm(fitted.weight, 2)


def test_ridge_is_scaled_and_leaves_the_bias_alone() -> None:
    perturbed, original, _, _ = data(300, 6, noise=1.0)
    solution = accumulate(perturbed, original).solve(0.3)
    x, y = perturbed - perturbed.mean(axis=0), original - original.mean(axis=0)
    penalty = 0.3 * np.trace(x.T @ x) / 6
    assert solution.ridge == pytest.approx(penalty)
    weight = np.linalg.solve(x.T @ x + penalty * np.eye(6), x.T @ y).T
    assert relative_error(solution.weight, weight) < 1e-10
    np.testing.assert_allclose(solution.weight @ perturbed.mean(axis=0) + solution.bias, original.mean(axis=0))
    scaled = accumulate(np.repeat(perturbed * 1000, 2, axis=0), np.repeat(original, 2, axis=0)).solve(0.3)
    assert relative_error(scaled.weight * 1000, weight) < 1e-10
    for wrong in (-1.0, np.nan, np.inf):
        with pytest.raises(UsageError):
            accumulate(perturbed, original).solve(wrong)


@pytest.mark.parametrize("sizes", [(1,) * 20, (150, 100), (0, 299, 0, 1), (7, 1, 13)])
def test_blocks_and_merging_change_nothing(sizes: tuple[int, ...]) -> None:
    perturbed, original, _, _ = data(301, 12, noise=0.5)
    whole = accumulate(perturbed, original).solve()
    blocked = accumulate(perturbed, original, sizes)
    assert blocked.n == 301
    merged, cuts = GramAccumulator(12, 12), np.cumsum(sizes)
    for x, y in zip(np.split(perturbed, cuts), np.split(original, cuts), strict=True):
        merged.merge(accumulate(x, y))
    assert merged.n == 301
    for gram in (blocked, merged):
        assert relative_error(gram.solve().weight, whole.weight) < 1e-12
        assert relative_error(gram.solve().bias, whole.bias) < 1e-12


def test_large_blocks_are_cut_and_judged_as_given(monkeypatch: pytest.MonkeyPatch) -> None:
    perturbed, original, _, _ = data(500, 5, noise=0.2)
    monkeypatch.setattr("facedecode.mapping.least_squares._BLOCK_NUMBERS", 5 * 64)
    gram = accumulate(perturbed, original)
    weight, bias = lstsq(perturbed, original)
    assert relative_error(gram.solve().weight, weight) < 1e-9
    judged = gram.judge(weight, bias)
    residual = np.mean(np.sum((original - perturbed @ weight.T - bias) ** 2, axis=1))
    displacement = np.mean(np.sum((original - perturbed) ** 2, axis=1))
    assert judged == pytest.approx(
        {"n": 500, "residual": residual, "displacement": displacement, "relative": residual / displacement}
    )


def test_duplicate_and_constant_columns_stay_finite() -> None:
    perturbed, original, _, _ = data(400, 6, noise=0.1)
    degenerate = np.column_stack([perturbed, perturbed[:, :2], np.full(400, 0.1)])
    gram = accumulate(degenerate, original, (100, 7))
    solution = gram.solve()
    assert (solution.rank, solution.condition) == (6, None)
    assert np.abs(solution.weight).max() < 10
    expected = np.column_stack(lstsq(perturbed, original)) @ np.column_stack([perturbed, np.ones(400)]).T
    np.testing.assert_allclose(solution.weight @ degenerate.T + solution.bias[:, None], expected, atol=1e-9)


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_constant_inputs_give_the_mean(ridge: float) -> None:
    original = np.random.default_rng(0).normal(size=(3000, 4))
    solution = accumulate(np.full((3000, 4), 0.1), original, (1234,)).solve(ridge)
    assert solution.rank == 0
    np.testing.assert_array_equal(solution.weight, 0)
    np.testing.assert_allclose(solution.bias, original.mean(axis=0), atol=1e-12)


def test_refused_blocks_leave_the_sums_alone() -> None:
    perturbed, original, _, _ = data(50, 3, noise=0.1)
    gram = accumulate(perturbed, original)
    before = gram.solve()
    broken = original.copy()
    broken[7, 1] = np.nan
    for x, y in (
        (perturbed, broken),
        (perturbed[:-1], original),
        (perturbed[:, :2], original),
        (original[0], broken),
    ):
        with pytest.raises(BadInput):
            gram.add(x, y)
    with pytest.raises(BadInput, match="do not merge"):
        gram.merge(GramAccumulator(3, 4))
    assert gram.n == 50
    np.testing.assert_array_equal(gram.solve().weight, before.weight)
    with pytest.raises(BadInput, match="no pair"):
        GramAccumulator(3, 3).solve()


# Fitting and judging


def test_fitted_on_the_rest_and_judged_on_the_held_out() -> None:
    perturbed, original, _, _ = data(600, 8, noise=0.4)
    held_out = np.random.default_rng(1).random(600) < 0.2
    mapping = fit_mapping([(perturbed, original, held_out)], "rotate30", DLIB, provenance={"store": "f"})
    weight, bias = lstsq(perturbed[~held_out], original[~held_out])
    assert relative_error(mapping.weight, weight) < 1e-6
    assert mapping.weight.dtype == mapping.bias.dtype == np.float32
    report, x, y = mapping.report, perturbed[held_out], original[held_out]
    mapped = x @ weight.T + bias

    def cosine(a: np.ndarray) -> float:
        return float(np.mean(np.sum(a * y, 1) / np.linalg.norm(a, axis=1) / np.linalg.norm(y, axis=1)))

    assert report["fitted_on"] == "the people who are not held out"
    assert report["provenance"] == {"store": "f"}
    assert report["training"]["n"] == (~held_out).sum()
    assert report["held_out"].pop("score") == "negative-euclidean"
    assert report["held_out"] == pytest.approx(
        {
            "n": held_out.sum(),
            "residual": np.mean(np.sum((y - mapped) ** 2, axis=1)),
            "displacement": np.mean(np.sum((y - x) ** 2, axis=1)),
            "relative": np.sum((y - mapped) ** 2) / np.sum((y - x) ** 2),
            "scored": held_out.sum(),
            "cosine_before": cosine(x),
            "cosine_after": cosine(mapped),
            "score_before": -np.mean(np.linalg.norm(y - x, axis=1)),
            "score_after": -np.mean(np.linalg.norm(y - mapped, axis=1)),
        },
        rel=1e-5,
    )
    json.dumps(report, allow_nan=False)


def test_streamed_blocks_give_the_same_map_and_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facedecode.mapping.sums._SAMPLE_NUMBERS", 5 * 40)  # fewer than are held out
    perturbed, original, _, _ = data(900, 5, noise=0.4)
    perturbed, original = perturbed.astype(np.float32), original.astype(np.float32)
    held_out = np.arange(900) % 5 == 0
    whole = fit_mapping([(perturbed, original, held_out)], "rotate30", DLIB)
    parts = ((perturbed[i : i + 64], original[i : i + 64], held_out[i : i + 64]) for i in range(0, 900, 64))
    streamed = fit_mapping(parts, "rotate30", DLIB)
    np.testing.assert_allclose(streamed.weight, whole.weight, atol=1e-6)
    assert whole.report["held_out"]["scored"] == 40
    assert whole.report["held_out"].pop("score") == streamed.report["held_out"].pop("score")
    for key in ("training", "held_out"):
        assert streamed.report[key] == pytest.approx(whole.report[key], rel=1e-5)


def test_without_held_out_rows_says_so() -> None:
    perturbed, original, _, _ = data(60, 4, noise=0.1)
    report = fit_mapping([(perturbed, original, np.zeros(60, bool))], "rotate30", DLIB).report
    assert report["held_out"] is None
    assert report["fitted_on"] == "all pairs"


def test_too_few_pairs_warn_and_get_a_ridge() -> None:
    perturbed, original, _, _ = data(20, 30)
    none = np.zeros(20, bool)
    with pytest.warns(FacedecodeWarning, match=r"20 pairs do not .* 30 dimensions; a ridge of .* was applied"):
        mapping = fit_mapping([(perturbed, original, none)], "rotate30", DLIB)
    assert mapping.report["ridge"] > 0 and mapping.report["ridge_by"] == "too few pairs"
    assert mapping.report["condition"] is None
    assert mapping.report["rank"] == 19
    with pytest.warns(FacedecodeWarning, match=r"the ridge of 0\.5 decides"):
        assert fit_mapping([(perturbed, original, none)], "rotate30", DLIB, ridge=0.5).report["ridge"] == 0.5


def test_refuses_what_does_not_fit() -> None:
    perturbed, original, _, _ = data(60, 4)
    every = np.ones(60, bool)
    for blocks in ([], [(perturbed, original, every)]):
        with pytest.raises(BadInput, match="rotate30: no pair"):
            fit_mapping(blocks, "rotate30", DLIB)
    for block in ((perturbed, original[:, :3], every), (perturbed, original, every[1:]), (perturbed[0],) * 3):
        with pytest.raises(BadInput, match=r"rotate30: .* do not match"):
            fit_mapping([block], "rotate30", DLIB)
    with pytest.raises(BadInput, match=r"4 numbers .* 128"):
        fit_mapping([(perturbed, original, ~every)], "rotate30", replace(DLIB, dim=128))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"precision": "bf16"}, "emb2: templates made in bf16, .* fitted on fp32 ones"),
        ({"mapping": {"undoes": "rotate30"}}, "emb2: templates that were mapped"),
        ({"recognizer": RecognizerId("other", None)}, "come from other"),
    ],
)
def test_templates_of_another_kind_are_refused(more: dict, said: str) -> None:
    turned = Processing(transform="rotate30")
    example().require_templates(DLIB, turned, "emb2")
    with pytest.raises(BadInput, match=said):
        example().require_templates(more.pop("recognizer", DLIB), replace(turned, **more), "emb2")
    example().warn_of_other_faces(turned, "emb2")
    for transform, faces in ((None, "as they were"), ("scale0.5", r"perturbed by scale0\.5")):
        with pytest.warns(FacedecodeWarning, match=f"emb2: templates of faces {faces}, .* undoes rotate30"):
            example().warn_of_other_faces(replace(turned, transform=transform), "emb2")


def test_apply() -> None:
    mapping = example()
    templates = np.random.default_rng(5).normal(size=(9, 4))
    mapped = mapping.apply(templates)
    assert mapped.dtype == np.float32
    np.testing.assert_allclose(mapped, templates @ mapping.weight.T + mapping.bias, rtol=1e-4, atol=1e-5)
    assert mapping.apply(templates[:0]).shape == (0, 4)
    for wrong in (templates[:, :3], templates[0]):
        with pytest.raises(BadInput, match=r"rotate30 mapping takes templates \(n, 4\)"):
            mapping.apply(wrong)


def test_another_recognizer_is_refused(tmp_path: Path) -> None:
    example().save(tmp_path / "rotate30.safetensors")
    mapping = load_mapping(tmp_path / "rotate30.safetensors")
    mapping.require_recognizer(DLIB)
    for other in (
        RecognizerId("edgeface-xxs", "ab" * 32),
        replace(DLIB, weights_sha256="cd" * 32),
        RecognizerId("dlib-resnet", None),
    ):
        with pytest.raises(BadInput) as caught:
            mapping.require_recognizer(other)
        assert "rotate30.safetensors" in str(caught.value)
        assert "dlib-resnet (weights sha256 abababababab)" in str(caught.value)
        assert str(other) in str(caught.value)


# Files


def test_saved_and_loaded_again(tmp_path: Path) -> None:
    mapping, path = example(), tmp_path / "rotate30.safetensors"
    mapping.save(path)
    loaded = load_mapping(path)
    np.testing.assert_array_equal(loaded.weight, mapping.weight)
    np.testing.assert_array_equal(loaded.bias, mapping.bias)
    assert (loaded.transform, loaded.recognizer, loaded.report) == (
        "rotate30",
        mapping.recognizer,
        mapping.report,
    )
    assert loaded.report["provenance"] == {"store": "ef" * 32}
    assert loaded.source == path
    for again in (example(), loaded):
        again.save(tmp_path / "again.safetensors")
        assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    assert sorted(tmp_path.iterdir()) == [tmp_path / "again.safetensors", path]


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        example().save(tmp_path)
    with pytest.raises(OutputError):
        example().save(tmp_path / "missing" / "rotate30.safetensors")


ABOUT: dict[str, Any] = {
    "format": "facedecode-mapping",
    "version": 1,
    "transform": "rotate30",
    "recognizer": DLIB.as_json(),
    "report": {},
}
TENSORS = {"weight": np.eye(3, dtype=np.float32), "bias": np.zeros(3, np.float32)}


def without(entries: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in entries.items() if name != key}


@pytest.mark.parametrize(
    ("about", "tensors", "message"),
    [
        (ABOUT | {"version": 3}, TENSORS, "version 3"),
        (without(ABOUT, "version"), TENSORS, "version None"),
        (ABOUT | {"format": "decoder"}, TENSORS, "not a mapping"),
        (None, TENSORS, "not a mapping"),
        ([1], TENSORS, "not a mapping"),
        (without(ABOUT, "transform"), TENSORS, "transform"),
        (ABOUT | {"recognizer": "dlib-resnet"}, TENSORS, "recognizer"),
        (ABOUT | {"recognizer": {}}, TENSORS, "field 'recognizer.name' is missing"),
        (ABOUT | {"recognizer": DLIB.as_json() | {"dim": 128}}, TENSORS, "3 numbers .* 128"),
        (ABOUT, without(TENSORS, "weight"), "lacks the tensor 'weight'"),
        (ABOUT, without(TENSORS, "bias"), "lacks the tensor 'bias'"),
        (ABOUT, TENSORS | {"bias": np.zeros(4, np.float32)}, "make no map"),
        (ABOUT, TENSORS | {"bias": np.zeros((3, 1), np.float32)}, "make no map"),
        (ABOUT, TENSORS | {"weight": np.zeros((3, 4), np.float32)}, "make no map"),
        (ABOUT, {"weight": np.zeros((0, 0), np.float32), "bias": np.zeros(0, np.float32)}, "make no map"),
        (ABOUT, TENSORS | {"bias": np.zeros(3)}, "float64"),
        (ABOUT, TENSORS | {"bias": np.array([0, np.nan, 0], np.float32)}, "NaN"),
        (ABOUT, TENSORS | {"weight": np.full((3, 3), np.inf, np.float32)}, "NaN or infinite"),
    ],
)
def test_malformed_files_are_refused(tmp_path: Path, about: Any, tensors: dict[str, np.ndarray], message: str) -> None:
    path = tmp_path / "map.safetensors"
    save_file(tensors, path, metadata=None if about is None else {"facedecode": json.dumps(about)})
    with pytest.raises(BadInput, match=f"{path}: .*{message}") as caught:
        load_mapping(path)
    assert "\n" not in str(caught.value)


def test_what_is_no_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "map.safetensors"
    with pytest.raises(BadInput, match=f"{path}: no such mapping"):
        load_mapping(path)
    with pytest.raises(BadInput, match=f"{tmp_path}: no such mapping"):
        load_mapping(tmp_path)
    example().save(path)
    content = path.read_bytes()
    save_file(TENSORS, tmp_path / "broken.safetensors", metadata={"facedecode": "{"})
    broken = (tmp_path / "broken.safetensors").read_bytes()
    for wrong in (b"", b"text", content[:-1], content[:100], content[:5], content + b"x", broken):
        path.write_bytes(wrong)
        with pytest.raises(BadInput, match=f"{path}: not a (readable safetensors file|mapping)"):
            load_mapping(path)
