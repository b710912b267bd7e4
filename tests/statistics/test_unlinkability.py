"""Unlinkability: known answers, analytic densities, loops, and people who are linked or not by construction."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from facedecode.errors import BadInput
from facedecode.statistics import linkage, linkage_estimate
from facedecode.statistics.linkage import measure_linkage, require_measurable
from facedecode.statistics.unlinkability import (
    bin_edges,
    d_sys,
    linkability,
    local_linkability,
    total_variation,
)
from facedecode.templates.protection import make_scheme


def gaussians(shift: float, scale: float = 1.0, n: int = 200_000) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return generator.normal(shift, scale, n), generator.normal(0, 1, n)


def test_nothing_links_equal_distributions():
    scores = np.random.default_rng(1).normal(size=5000)
    found = linkability(scores, scores[::-1])
    assert found.d_sys == 0
    assert found.maximal == 0
    assert not found.local.any()
    twice = linkability(np.concatenate([scores, scores]), scores)
    assert twice.d_sys == pytest.approx(0, abs=1e-12)


def test_everything_links_disjoint_distributions():
    found = linkability(np.linspace(2, 3, 400), np.linspace(-1, 1, 999))
    assert found.d_sys == 1
    assert found.maximal == 1
    assert found.local[found.mated > 0] == pytest.approx(1)


def test_mated_scores_may_be_the_lower_ones():
    up, down = gaussians(1.5), gaussians(-1.5)
    assert linkability(*down).d_sys == pytest.approx(linkability(*up).d_sys, abs=0.01)


@pytest.mark.parametrize(("shift", "scale"), [(1, 1), (2, 1.5), (0.5, 0.7)])
def test_gaussians_have_the_analytic_values(shift, scale):
    p, q = stats.norm(shift, scale).pdf, stats.norm.pdf

    def linked(s: float) -> float:
        ratio = p(s) / q(s)
        return p(s) * (2 * ratio / (1 + ratio) - 1) if ratio > 1 else 0.0

    d_sys = integrate.quad(linked, -9, 9, limit=500)[0]
    maximal = np.log2(integrate.quad(lambda s: max(p(s), q(s)), -12, 14, limit=500)[0])
    found = linkability(*gaussians(shift, scale))
    assert found.d_sys == pytest.approx(d_sys, abs=0.006)
    assert found.maximal == pytest.approx(maximal, abs=0.006)


def test_neither_order_nor_a_rising_affine_map_matters():
    mated, non_mated = gaussians(1, n=3000)
    found = linkability(mated, non_mated)
    shuffled = linkability(mated[::-1], np.roll(non_mated, 7))
    mapped = linkability(4 * mated - 8, 4 * non_mated - 8)  # exact in binary, so that no score changes its bin
    assert (shuffled.d_sys, shuffled.maximal) == (found.d_sys, found.maximal)
    assert (mapped.d_sys, mapped.maximal) == pytest.approx((found.d_sys, found.maximal))


def test_measures_equal_loops():
    generator = np.random.default_rng(2)
    mated, non_mated, weights = generator.normal(0.8, 1, 137), generator.normal(0, 1, 411), generator.random(137)
    found = linkability(mated, non_mated, weights)
    low, high = min(mated.min(), non_mated.min()), max(mated.max(), non_mated.max())
    assert found.edges == pytest.approx(np.linspace(low, high, 14))
    d_sys = covered = 0.0
    for k in range(13):
        last = k == 12

        def inside(s, k=k, last=last):
            return found.edges[k] <= s < found.edges[k + 1] or (last and s >= found.edges[-1])

        p = sum(w for s, w in zip(mated, weights, strict=True) if inside(s)) / weights.sum()
        q = sum(inside(s) for s in non_mated) / 411
        ratio = p / q if q else np.inf if p else 0.0
        local = 0.0 if ratio <= 1 else 1.0 if np.isinf(ratio) else 2 * ratio / (1 + ratio) - 1
        assert found.local[k] == pytest.approx(local)
        d_sys += p * local
        covered += max(p, q)
    assert found.d_sys == pytest.approx(d_sys)
    assert found.maximal == pytest.approx(np.log2(covered))


def test_weights_count_repeats():
    mated, non_mated = gaussians(1, n=400)
    repeats = np.tile([1, 1, 2, 4], 100)
    weighted = linkability(mated, non_mated, repeats.astype(float))
    edges = weighted.edges
    counted = np.histogram(np.repeat(mated, repeats), edges)[0]
    assert weighted.mated == pytest.approx(counted / counted.sum())


@pytest.mark.parametrize(("count", "bins"), [(100, 10), (119, 11), (999, 99), (50_000, 100)])
def test_there_are_as_many_bins_as_the_rule_says(count, bins):
    assert len(bin_edges(np.arange(count), np.arange(7))) == bins + 1


def test_equal_scores_link_nothing():
    found = linkability(np.zeros(100), np.zeros(9))
    assert (found.d_sys, found.maximal, len(found.local)) == (0, 0, 1)


def test_a_score_that_only_mated_comparisons_have_is_certain():
    assert local_linkability(np.array([0.5, 0.5, 0.0]), np.array([0.0, 1.0, 0.0])).tolist() == [1, 0, 0]


def test_scores_that_are_none():
    for mated, non_mated, said in (([], [1.0], "no mated"), ([1.0], [], "no non-mated"), ([np.nan], [0.0], "finite")):
        with pytest.raises(BadInput, match=said):
            linkability(np.array(mated), np.array(non_mated))
    # One bin holds everything and so links nothing, were it allowed.
    with pytest.raises(BadInput, match=r"99 mated .* needs 100 \(10 bins of 10\)"):
        linkability(np.ones(99), np.zeros(99))


# People across keys


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(linkage, "NULL_DRAWS", 60)
    monkeypatch.setattr(linkage, "MOST_NON_MATED", 20_000)


def people(count: int = 150, dim: int = 16, noise: float = 0.3, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    generator = np.random.default_rng(seed)
    codes = np.repeat(np.arange(count), generator.integers(1, 5, count))
    looks = generator.normal(size=(count, dim))
    return looks[codes] + noise * generator.normal(size=(len(codes), dim)), [f"p{k:03d}" for k in codes]


def test_the_uncorrected_figure_is_that_of_the_scores_with_people_weighing_alike():
    codes = np.repeat(np.arange(60), 2 + np.arange(60) % 3)
    generator = np.random.default_rng(4)
    values = generator.normal(size=(60, 1))[codes] + generator.normal(size=(len(codes), 1))
    found = measure_linkage([values, values], [f"p{k:02d}" for k in codes], "negative-euclidean", repetitions=100)
    mated, weights = [], []
    for person in range(60):
        own = values[codes == person, 0]
        scores = [-abs(a - b) for i, a in enumerate(own) for j, b in enumerate(own) if i != j]
        mated += scores
        weights += [1 / len(scores)] * len(scores)
    counts = np.histogram(mated, found.measured.edges, weights=weights)[0]
    assert found.measured.mated == pytest.approx(counts / 60, abs=1e-4)
    others = linkability(np.array(mated), -np.abs(values - values.T)[codes[:, None] != codes], np.array(weights))
    assert found.measured.d_sys == pytest.approx(others.d_sys, abs=0.05)


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0, 3.0])
def test_figures_lie_in_their_own_intervals(noise):
    templates, names = people(80, noise=noise)
    others = templates + noise * np.random.default_rng(7).normal(size=templates.shape)
    found = measure_linkage([templates, others], names, "cosine", repetitions=100)
    for figure in (found.d_sys, found.maximal):
        assert 0 <= figure.low <= figure.value <= figure.high <= 1
        assert figure.low < figure.high


def test_people_who_are_all_linked_leave_room_for_one_who_is_not():
    looks = np.eye(40)
    names = [f"p{k:02d}" for k in range(40)] * 2
    templates = np.concatenate([looks, looks])
    found = measure_linkage([templates] * 3, names, "cosine", repetitions=100)
    assert (found.d_sys.value, found.d_sys.high) == (1, 1)
    # Clopper and Pearson's lower bound of 40 successes in 40.
    bound = stats.beta.ppf(0.025, 40, 1)
    assert found.d_sys.low == pytest.approx(bound)
    assert found.maximal.low == pytest.approx(np.log2(1 + bound))


def test_a_set_too_small_for_ten_bins_is_refused_however_linked():
    looks, names = np.eye(40), [f"p{k // 2}" for k in range(40)]
    templates = looks[np.repeat(np.arange(20), 2)]
    with pytest.raises(BadInput, match="40 mated comparisons across keys, and linkability needs 100"):
        measure_linkage([templates] * 2, names, "cosine")
    with pytest.raises(BadInput, match="40 mated"):
        require_measurable(names, 2)
    require_measurable(names, 3)
    assert measure_linkage([templates] * 3, names, "cosine", repetitions=100).d_sys.value == 1


def test_unprotected_templates_are_linked_and_independent_ones_are_not():
    templates, names = people()
    linked = measure_linkage([templates, templates], names, "cosine", repetitions=100)
    assert linked.d_sys.value > 0.95
    assert linked.distinguishable
    assert linked.d_sys.low <= linked.d_sys.high <= 1
    others = np.random.default_rng(9).normal(size=templates.shape)
    unlinked = measure_linkage([templates, others], names, "cosine", repetitions=100)
    assert unlinked.d_sys.low == 0
    assert unlinked.d_sys.value < unlinked.measured.d_sys < 0.15
    assert abs(unlinked.measured.d_sys - unlinked.d_sys_null.mean) < 0.05


def test_what_is_not_linked_is_called_linked_no_more_often_than_said():
    above = []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        _, names = people(60, seed=seed)
        codes = np.unique(names, return_inverse=True)[1]
        # Scores of one person are alike, whatever the other side is: independent scores would have a lower level.
        effect = generator.normal(size=60)[codes]
        left = (effect + 0.1 * generator.normal(size=len(codes)))[:, None]
        right = (generator.normal(size=60)[codes] + 0.1 * generator.normal(size=len(codes)))[:, None]
        above.append(
            measure_linkage([left, right], names, "negative-euclidean", seed=seed, repetitions=100).distinguishable
        )
    assert np.sum(above) <= stats.binom(60, 0.03).ppf(0.9999)


def test_one_image_under_both_keys_is_linked_by_what_a_rotation_keeps():
    templates, names = people()
    keys = [make_scheme("rotation", b"%16d" % k, 16, "cosine").protect(templates) for k in range(2)]
    lengths = [np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True) for x in keys]
    options = {"same_image": True, "repetitions": 100}
    assert measure_linkage(lengths, names, "negative-euclidean", **options).d_sys.value > 0.8
    assert measure_linkage(keys, names, "cosine", **options).d_sys.value < 0.35


def test_counts_and_pairs_of_keys():
    templates, names = people()
    found = measure_linkage([templates] * 3, names, "cosine", repetitions=100)
    counts = np.unique(names, return_counts=True)[1]
    repeated = counts[counts > 1]
    assert found.mated == 3 * (repeated * (repeated - 1)).sum()
    assert found.d_sys.n == len(repeated)
    assert len(found.by_keys) == 3
    same = measure_linkage([templates] * 3, names, "cosine", same_image=True, repetitions=100)
    assert same.mated == 3 * len(names)
    assert same.d_sys.n == len(counts)


def test_people_count_alike_and_nobody_is_compared_with_themselves():
    codes = np.repeat([0, 1, 2], [30, 2, 2])
    images, generator = linkage._Images(codes, same_image=False), np.random.default_rng(0)
    left, right = images.mated(generator)
    assert np.bincount(codes[left]).tolist() == [20, 2, 2]
    assert (codes[left] == codes[right]).all()
    assert (left != right).all()
    assert len(set(zip(left, right, strict=True))) == 24
    one, other = images.non_mated(6000, generator)
    assert (codes[one] != codes[other]).all()
    shares = np.bincount(3 * codes[one] + codes[other], minlength=9) / 6000
    assert shares[[1, 2, 3, 5, 6, 7]] == pytest.approx(np.full(6, 1 / 6), abs=0.03)
    exchanged = images.exchanged(linkage.LinkageScores(left, right, np.zeros(24)), generator)
    partners = {int(code): set(codes[exchanged.right[codes[left] == code]].tolist()) for code in range(3)}
    assert all(len(found) == 1 and code not in found for code, found in partners.items())


def test_what_a_person_adds_is_what_the_shares_change_by():
    generator = np.random.default_rng(3)
    owners, left = np.arange(80) % 6, generator.integers(6, size=900)
    right = (left + generator.integers(1, 6, size=900)) % 6
    mated, non_mated = generator.normal(1 + owners / 9, 1), generator.normal(0, 1, 900)
    shares = linkage_estimate._shares(linkage_estimate.PersonScores(mated, owners, non_mated, left, right)).coarser(8)
    assert (shares.mated + shares.non_mated) / 2 == pytest.approx(np.full(8, 1 / 8), abs=0.02)
    ranked = np.concatenate([mated, non_mated])
    weights = np.concatenate([1 / 6 / np.bincount(owners)[owners], np.full(900, 1 / 900)])
    order = np.argsort(ranked)
    rank = np.empty(len(order), dtype=int)
    rank[order] = np.minimum(np.searchsorted(np.arange(1, 8) / 4, np.cumsum(weights[order]), side="left"), 7)
    for person in range(6):
        step = np.ones(6)
        step[person] += 1e-6
        p = np.bincount(rank[:80], weights[:80] * step[owners], minlength=8)
        q = np.bincount(rank[80:], step[left] * step[right], minlength=8)
        for moved, share, influence in (
            (p, shares.mated, shares.mated_influence),
            (q, shares.non_mated, shares.non_mated_influence),
        ):
            assert (moved / moved.sum() - share) * 6e6 == pytest.approx(influence[person], abs=0.06)
        for figure, influence in zip((d_sys, total_variation), linkage_estimate._influences(shares), strict=True):
            by = 1e-6 * np.array([shares.mated_influence[person], shares.non_mated_influence[person]])
            change = figure(shares.mated + by[0], shares.non_mated + by[1]) - figure(shares.mated, shares.non_mated)
            assert change * 1e6 == pytest.approx(influence[person], abs=1e-4)


def test_a_few_linked_people_have_the_interval_of_a_share():
    truths = np.linspace(0, 1.5, len(linkage_estimate._STRENGTHS))
    people, share, deviate = 100, 0.05, 1.984
    influence = np.where(np.arange(people) < 5, 1 - share, -share)
    exact = np.array([truths] * 3)  # without noise each system is found as it is
    value, low, high = linkage_estimate._interval(share, truths, exact, influence, deviate, 0.95)
    # Wilson's, of a variance of so many people.
    reach = [
        lambda true, sign=sign: (
            share - true - sign * deviate * np.sqrt(share * (1 - share) / 99 + (1 - 2 * share) * (true - share) / 100)
        )
        for sign in (-1, 1)
    ]
    assert value == pytest.approx(share)
    assert low == pytest.approx(optimize.brentq(reach[1], 0, share))
    assert high == pytest.approx(optimize.brentq(reach[0], share, 1))


def scene(seed: int, count: int, share: float = 1.0) -> tuple[list[np.ndarray], list[str]]:
    """Two images of each person under two keys; their looks have so large a share in common."""
    generator = np.random.default_rng(seed)
    looks = generator.normal(size=(3, count))
    keys = [(np.sqrt(share) * looks[0] + np.sqrt(1 - share) * own).repeat(2) for own in looks[1:]]
    return [(look + 0.5 * generator.normal(size=2 * count))[:, None] for look in keys], [
        f"p{k:06d}" for k in np.arange(count).repeat(2)
    ]


@pytest.mark.parametrize(("people", "share"), [(120, 1.0), (60, 0.6)])
def test_the_interval_holds_the_truth_and_the_estimate_is_near_it(people, share, monkeypatch):
    truth = measure_linkage(*scene(0, 6_000, share), "negative-euclidean", repetitions=2).measured.d_sys
    monkeypatch.setattr(linkage, "NULL_DRAWS", 2)
    found = [
        measure_linkage(*scene(seed + 1, people, share), "negative-euclidean", repetitions=100, seed=seed)
        for seed in range(40)
    ]
    values = np.array([figures.d_sys.value for figures in found])
    held = [figures.d_sys.low <= truth <= figures.d_sys.high for figures in found]
    assert np.sum(held) >= stats.binom(40, 0.93).ppf(1e-3)
    assert abs(values.mean() - truth) < 3 * values.std() / np.sqrt(40)


def test_where_nothing_links_the_estimate_is_0_every_other_time(monkeypatch):
    monkeypatch.setattr(linkage, "NULL_DRAWS", 2)
    found = [
        measure_linkage(*scene(seed, 60, 0.0), "negative-euclidean", repetitions=100, seed=seed) for seed in range(60)
    ]
    for figures in ([of.d_sys for of in found], [of.maximal for of in found]):
        assert np.sum([of.value == 0 for of in figures]) >= stats.binom(60, 0.4).ppf(1e-3)
        assert np.sum([of.low > 0 for of in figures]) <= stats.binom(60, 0.03).ppf(0.999)
        assert all(of.high >= 1 - 0.025 ** (1 / 60) for of in figures)


@pytest.mark.parametrize("same_image", [False, True])
def test_a_person_with_half_of_all_images_and_two_people_alone(same_image):
    generator = np.random.default_rng(5)
    for counts in ([60] + [2] * 30, [12, 12]):
        codes = np.repeat(np.arange(len(counts)), counts)
        left, right = generator.normal(size=(2, len(codes), 1))
        names = [f"p{code:02d}" for code in codes]
        # So few comparisons with so many keys, that the smallest set is allowed.
        found = measure_linkage([left, right] * 3, names, "negative-euclidean", same_image=same_image, repetitions=100)
        for figure in (found.d_sys, found.maximal):
            assert 0 <= figure.low <= figure.value <= figure.high <= 1
            assert figure.n == len(counts)
    assert found.d_sys.high > 0.8  # two people tell next to nothing


def test_what_cannot_be_linked():
    templates, names = people()
    with pytest.raises(BadInput, match="two keys or more"):
        measure_linkage([templates], names, "cosine")
    with pytest.raises(BadInput, match="two people or more with two images each; there are 1"):
        measure_linkage([templates[:3]] * 2, ["a", "a", "b"], "cosine")
