"""Figures: what is drawn stands where the numbers say, and the bytes depend on nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np
import pytest
from calibration import calibration_plot
from scipy import stats

from facedecode.report import plots
from facedecode.statistics.bootstrap import Estimate
from facedecode.statistics.pair_rates import RateAtFmr
from facedecode.statistics.verification import Roc, roc

NAMES = ["dlib-resnet", "_hidden", "$x^2$", "<b>&amp;\"'", "tab\there\x00\udcff", "張三 -->"]


def normal_scores(count: int, mean: float) -> np.ndarray:
    """The quantiles of a normal distribution, so that rates are those of theory to 1 / count."""
    return stats.norm.ppf((np.arange(count) + 0.5) / count) + mean


def rate(value: float, low: float | None, high: float | None, fmr: float, wanted: float = 0.001) -> RateAtFmr:
    return RateAtFmr(value, low, high, 9, 0.0, wanted, fmr, round(fmr * 1000), 1000, 9)


@pytest.fixture
def curve() -> Roc:
    return roc(normal_scores(500, 2), normal_scores(2000, 0))


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Calls a plot; gives the matplotlib figure that its bytes were made from."""
    from matplotlib.figure import Figure

    figures, save = [], Figure.savefig

    def keep(figure, *arguments, **options) -> None:
        figures.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)

    def call(plot: Callable, *arguments, **options):
        ElementTree.fromstring(plot(*arguments, **options))
        return figures[-1]

    return call


def every_plot(curve: Roc) -> list[bytes]:
    row = [Estimate(0.5, 0.4, 0.6, 9), Estimate(0.7, None, None, 1)]
    return [
        plots.roc_plot(dict.fromkeys(NAMES, curve), {NAMES[0]: [rate(0.9, 0.8, 0.95, 0.001)]}),
        plots.det_plot(dict.fromkeys(NAMES, curve)),
        plots.histogram_plot(np.array([1.0, 2.0]), np.array([0.0, 1.5]), dict.fromkeys(NAMES, 1.0), NAMES[2]),
        plots.curve_plot([1, 10], dict.fromkeys(NAMES, row), x_label=NAMES[2], y_label=NAMES[3], log_x=True),
        calibration_plot([0.4, 0.8], row, x_label=NAMES[2], y_label=NAMES[3], percent=True),
        plots.matrix_plot(NAMES, NAMES[:2], np.full((6, 2), 0.5), x_label=NAMES[2], y_label=NAMES[4]),
    ]


def test_figures_are_equal_to_the_byte_whatever_the_settings(curve: Roc) -> None:
    import matplotlib

    first = every_plot(curve)
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "svg.hashsalt": "other", "lines.linewidth": 9}):
        assert every_plot(curve) == first
        assert matplotlib.rcParams["font.size"] == 30
    for image in first:
        assert ElementTree.fromstring(image).tag.endswith("svg")
        assert b"<dc:date>" not in image


def test_no_pyplot_and_no_matplotlib_before_it_is_needed() -> None:
    program = (
        "import sys, numpy as np\n"
        "from facedecode.report import plots\n"
        "assert 'matplotlib' not in sys.modules\n"
        "plots.histogram_plot(np.ones(3), np.zeros(3))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_any_name_stands_in_the_legend(draw: Callable, curve: Roc) -> None:
    figure = draw(plots.roc_plot, dict.fromkeys(NAMES, curve))
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == ["dlib-resnet", " _hidden", "$x^2$", "<b>&amp;\"'", "tab\\x09here\\x00\\udcff", "張三 -->"]
    assert not any(text.get_parse_math() for text in figure.legends[0].get_texts())


# ROC


def test_a_roc_curve_is_drawn_where_it_is(draw: Callable, curve: Roc) -> None:
    axes = draw(plots.roc_plot, {"a": curve}).axes[0]
    x, y = axes.lines[0].get_data()
    assert axes.get_xscale() == "log"
    assert x[0] == curve.fmr[curve.fmr > 0].min()
    assert (x[-1], y[-1]) == (1, 1)
    for fmr, tar in zip(x, y, strict=True):
        assert tar in curve.tar[curve.fmr == fmr]
    low, high = axes.get_ylim()
    assert low < y[0] and high > 1


def test_scores_that_do_not_overlap_give_the_upper_edge(draw: Callable) -> None:
    axes = draw(plots.roc_plot, {"a": roc(np.array([2.0, 3.0]), np.array([0.0, 1.0]))}).axes[0]
    assert (axes.lines[0].get_ydata() == 1).all()
    assert axes.lines[0].get_xdata()[0] == axes.get_xlim()[0] < 1 == axes.get_xlim()[1]


def test_failures_to_acquire_keep_a_curve_below_one(draw: Callable) -> None:
    curve = roc(np.array([1.0, 2.0, -np.inf, -np.inf]), np.array([0.0, 1.5, -np.inf]))
    axes = draw(plots.roc_plot, {"a": curve}).axes[0]
    assert axes.lines[0].get_ydata().max() == 0.5


def test_operating_points_stand_at_the_fmr_reached_with_their_intervals(draw: Callable, curve: Roc) -> None:
    points = [rate(0.9, 0.4, 0.95, 0.0009), rate(0.7, None, None, 0.0, wanted=0.00001)]
    figure = draw(plots.roc_plot, {"a": curve}, {"a": points})
    axes = figure.axes[0]
    (bars,) = axes.containers
    assert bars.lines[0].get_xdata().tolist() == [0.0009, 0.00001]
    segments = [segment[:, 1].tolist() for segment in bars.lines[2][0].get_segments()]
    assert segments == [pytest.approx([0.4, 0.95]), [0.7, 0.7]]
    assert bars.lines[0].get_color() == axes.lines[0].get_color()
    assert axes.get_xlim()[0] == 0.00001
    assert axes.get_ylim()[0] < 0.4
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a"]


# DET


def test_normal_scores_give_a_straight_det_line(draw: Callable) -> None:
    curve = roc(normal_scores(20_000, 2), normal_scores(20_000, 0))
    axes = draw(plots.det_plot, {"a": curve}).axes[0]
    x, y = np.array(axes.lines[0].get_data())
    seen = (x > stats.norm.ppf(0.001)) & (y > stats.norm.ppf(0.001))
    assert seen.sum() > 100
    assert x[seen] + y[seen] == pytest.approx(-2, abs=0.02)


def test_det_axes_are_normal_deviates(draw: Callable, curve: Roc) -> None:
    axes = draw(plots.det_plot, {"a": curve}).axes[0]
    for axis in (axes.xaxis, axes.yaxis):
        shown = [float(label.get_text()) / 100 for label in axis.get_ticklabels()]
        assert shown == [0.0001, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4]
        assert axis.get_ticklocs() == pytest.approx(stats.norm.ppf(shown))
    assert axes.get_xlim() == axes.get_ylim() == pytest.approx(stats.norm.ppf([0.00008, 0.5]))


# Histogram


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_histogram_shows_densities(draw: Callable, kind: type) -> None:
    rng = np.random.default_rng(0)
    mated, non_mated = rng.normal(2, 0.5, 3000).astype(kind), rng.normal(0, 1, 200_000).astype(kind)
    mated[:7] = -np.inf
    figure = draw(plots.histogram_plot, mated, non_mated, {"FMR 1 %": 1.5}, "cosine")
    for axes in figure.axes:
        for patch, scores in zip(axes.patches[1::2], (mated, non_mated), strict=True):
            density, edges, _ = patch.get_data()
            expected, _ = np.histogram(scores[np.isfinite(scores)], edges, density=True)
            assert density == pytest.approx(expected, rel=2e-5)
            assert density.sum() * (non_mated.max() - non_mated.min()) / len(density) == pytest.approx(1)
        assert axes.lines[0].get_xdata() == [1.5, 1.5]
        assert axes.get_xlim() == pytest.approx((non_mated.min(), non_mated.max()))
    assert [axes.get_yscale() for axes in figure.axes] == ["linear", "log"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["mated: 3,000, 7 without a score", "non-mated: 200,000", "FMR 1 %: 1.5"]


def test_a_histogram_of_one_score_is_drawn_and_of_none_refused(draw: Callable) -> None:
    draw(plots.histogram_plot, np.full(3, 0.5), np.full(4, 0.5))
    draw(plots.histogram_plot, np.full(3, 0.5, np.float32), np.full(4, np.nextafter(np.float32(0.5), np.float32(1))))
    draw(plots.histogram_plot, np.full(3, -np.inf), np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="finite"):
        plots.histogram_plot(np.full(3, -np.inf), np.array([]))


# Curves and matrices


def test_curves_have_their_intervals_as_bands(draw: Callable) -> None:
    row = [Estimate(0.5, 0.4, 0.6, 9), Estimate(0.7, None, None, 1), Estimate(0.9, 0.85, 0.92, 9)]
    figure = draw(plots.curve_plot, [10, 100, 1000], {"a": row}, x_label="pairs", y_label="success", log_x=True)
    (axes,) = figure.axes
    assert axes.lines[0].get_ydata().tolist() == [0.5, 0.7, 0.9]
    corners = {tuple(np.round(corner, 9)) for corner in axes.collections[0].get_paths()[0].vertices}
    assert corners == {(10, 0.4), (10, 0.6), (100, 0.7), (1000, 0.85), (1000, 0.92)}
    assert (axes.get_xscale(), axes.get_ylabel()) == ("log", "success")
    assert axes.yaxis.get_major_formatter()(0.5, None) == "50 %"
    plain = draw(plots.curve_plot, [1, 2, 3], {"a": row}, x_label="x", y_label="dB", percent=False).axes[0]
    assert (plain.get_xscale(), plain.get_ylabel()) == ("linear", "dB")


def test_a_matrix_says_each_share_in_its_cell(draw: Callable) -> None:
    values = np.array([[0.0, 0.25, 1.0], [0.5, np.nan, 0.9]])
    figure = draw(plots.matrix_plot, ["r1", "r2"], ["a", "b", "c"], values, x_label="x", y_label="y")
    (axes,) = figure.axes
    said = {text.get_position(): text.get_text() for text in axes.texts}
    top = min(y for _, y in said) if axes.yaxis_inverted() else max(y for _, y in said)
    assert [said[x + 0.5, top] for x in range(3)] == ["0.00 %", "25.00 %", "100.00 %"]
    assert [said[x + 0.5, 2 - top] for x in range(3)] == ["50.00 %", "–", "90.00 %"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["r1", "r2"]
    with pytest.raises(ValueError, match="2 rows and 2 columns"):
        plots.matrix_plot(["a", "b"], ["a", "b"], values, x_label="x", y_label="y")


# Thinning


@pytest.mark.parametrize("seed", range(5))
def test_thinning_moves_nothing_that_can_be_seen(seed: int) -> None:
    rng = np.random.default_rng(seed)
    steps = rng.exponential(1, (2, 200_000)) ** 4 * (rng.random((2, 200_000)) < 0.3)
    u, v = np.cumsum(steps, axis=1) / steps.sum(axis=1, keepdims=True)
    v = 1 - v if seed % 2 else v
    kept = plots._thinned(u, v)
    assert (kept[0], kept[-1]) == (0, len(u) - 1)
    assert len(kept) <= 2 * (2 * plots._CELLS + 1)
    after = np.clip(np.searchsorted(kept, np.arange(len(u))), 1, len(kept) - 1)
    (u0, v0), (u1, v1) = ((u[kept[k]], v[kept[k]]) for k in (after - 1, after))
    length = np.hypot(u1 - u0, v1 - v0)
    distance = np.abs((u1 - u0) * (v - v0) - (v1 - v0) * (u - u0)) / np.maximum(length, 1e-12)
    assert distance[length > 0].max() < 1 / plots._CELLS


def test_thinning_keeps_jumps() -> None:
    u = np.concatenate([np.linspace(0, 0.4, 5000), np.linspace(0.7, 1, 5000)])
    kept = plots._thinned(u, np.zeros(10_000))
    assert {4999, 5000} <= set(kept.tolist())
    assert len(kept) < 600


def test_short_curves_stay_whole_where_it_shows() -> None:
    u = np.linspace(0, 1, 20)
    assert plots._thinned(u, u**2).tolist() == list(range(20))
    assert plots._thinned(np.zeros(1), np.zeros(1)).tolist() == [0]


# ---------------------------------------------------------------- calibration


def test_a_calibration_stands_at_what_was_predicted(draw: Callable) -> None:
    row = [Estimate(0.2, 0.1, 0.25, 9), Estimate(0.5, None, None, 1)]
    axes = draw(calibration_plot, [0.3, 0.4], row, x_label="predicted", y_label="found", percent=True).axes[0]
    right, found = axes.lines[:2]
    np.testing.assert_allclose(np.array(found.get_xydata(), float), [[0.3, 0.2], [0.4, 0.5]])
    np.testing.assert_allclose(right.get_xdata(), right.get_ydata())
    (bars,) = axes.collections
    np.testing.assert_allclose(np.array(bars.get_segments(), float)[..., 1], [[0.1, 0.25], [0.5, 0.5]])
    assert axes.get_xlim() == axes.get_ylim() and axes.get_xlim()[0] < 0.1
    one = draw(calibration_plot, [0.3], [Estimate(0.3, None, None, 1)], x_label="x", y_label="y").axes[0]
    assert one.get_xlim()[0] < 0.3 < one.get_xlim()[1]
