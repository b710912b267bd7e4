"""The template expected of a person: constructed people, for whom the best prediction is known."""

import numpy as np
import pytest

from facedecode.training.losses import PersonPrediction


def expected_templates(templates, names, score):
    return PersonPrediction.fit(templates, names, score).apply(templates)


def people(count: int, images: int, between: np.ndarray, within: np.ndarray, seed: int = 0):
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(count, len(between))) * np.sqrt(between) + 2
    names = np.repeat(np.arange(count), images)
    templates = centers[names] + rng.normal(size=(len(names), len(between))) * np.sqrt(within)
    return templates.astype(np.float32), centers[names], [str(n) for n in names]


def test_each_direction_shrinks_by_its_reliability() -> None:
    between, within = np.array([4.0, 1.0, 0.25]), np.array([0.5, 1.0, 2.0])
    templates, _, names = people(3000, 3, between, within)
    found = expected_templates(templates, names, "negative-euclidean")
    mean = templates.mean(0)
    slopes = [np.polyfit(templates[:, i] - mean[i], found[:, i] - mean[i], 1)[0] for i in range(3)]
    assert slopes == pytest.approx(between / (between + within), abs=0.04)


def test_the_prediction_is_nearer_to_the_person_than_the_template() -> None:
    templates, centers, names = people(400, 2, np.ones(6), np.full(6, 0.7), seed=1)
    found = expected_templates(templates, names, "negative-euclidean")
    assert ((found - centers) ** 2).mean() < 0.7 * ((templates - centers) ** 2).mean()


def test_it_holds_for_people_it_was_not_fitted_on() -> None:
    templates, _, names = people(600, 3, np.ones(6), np.full(6, 0.7), seed=5)
    others, centers, _ = people(300, 1, np.ones(6), np.full(6, 0.7), seed=6)
    found = PersonPrediction.fit(templates, names, "negative-euclidean").apply(others)
    error = ((found - centers) ** 2).mean()
    assert error == pytest.approx(0.7 / 1.7, rel=0.1)  # B W / (B + W): the least that is possible


def test_a_person_with_many_images_counts_once() -> None:
    templates, _, names = people(60, 2, np.ones(4), np.full(4, 0.5), seed=2)
    many = np.concatenate([templates, np.repeat(templates[:2], 500, 0)])
    found = expected_templates(many, names + names[:2] * 500, "negative-euclidean")
    plain = expected_templates(templates, names, "negative-euclidean")
    assert np.abs(found[: len(templates)] - plain).max() < 0.1


def test_cosine_looks_at_directions_only() -> None:
    templates, _, names = people(50, 3, np.ones(5), np.full(5, 0.3), seed=3)
    lengths = np.random.default_rng(0).uniform(0.5, 2, (len(templates), 1)).astype(np.float32)
    np.testing.assert_allclose(
        expected_templates(templates * lengths, names, "cosine"),
        expected_templates(templates, names, "cosine"),
        atol=1e-5,
    )


def test_without_second_images_nothing_is_known_of_them() -> None:
    templates = np.random.default_rng(4).normal(size=(5, 3)).astype(np.float32)
    np.testing.assert_array_equal(expected_templates(templates, [None] * 5, "negative-euclidean"), templates)
