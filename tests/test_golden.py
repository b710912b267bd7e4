"""Every number of every evaluation's report equals its golden value, which `golden/make.py` wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from golden.make import CASES, HERE, evaluate, prepare

from facedecode.evaluation import EVALUATIONS

# Where numbers went that a report has under another name now: pattern of the old CASE/PATH → the new one.
RENAMED: dict[str, str] = {}

# Relative and absolute tolerance by pattern of CASE/PATH, the first that matches. All figures agree to 1e-6 between
# processors with AVX2 and with AVX-512. Where there is no fused multiply-add, convolutions and matrix products round
# otherwise, and of a picture some pixel ends one level higher or lower.
TOLERANCES = {
    # The logarithm of spectral power, which is nearly none in smooth pictures: one level of a pixel is seen in it.
    r"reconstruction.*/grid_peak_\d+/.*": (0, 0.15),
    r"reconstruction.*": (1e-3, 2e-4),
    # Maps fitted on embedded pictures, and their logarithms, whose small differences of large numbers lose digits.
    r"equivariance.*": (1e-3, 2e-3),
    # One comparison of 160 lies that near to the threshold; linkability is a sum over bins of a histogram.
    r"security/metrics/pairs_curve.*": (0, 0.01),
    r"protection-stores/.*": (0, 3e-3),
    r".*": (1e-6, 1e-9),
}


@pytest.fixture(scope="module", autouse=True)
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder with all inputs, to work in."""
    with pytest.MonkeyPatch.context() as patch:
        prepare(tmp_path_factory.mktemp("golden"), patch)
        yield


def numbers(tree: object, path: str) -> Iterator[tuple[str, float | None]]:
    """(path, value) of every number in JSON, and of every null."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from numbers(value, f"{path}/{key}")
    elif isinstance(tree, list):
        for place, value in enumerate(tree):
            yield from numbers(value, f"{path}/{place}")
    elif not isinstance(tree, str):
        yield path, tree


def renamed(path: str) -> str:
    for old, new in RENAMED.items():
        path = re.sub(f"^{old}$", new, path)
    return path


def same(path: str, old: float | None, new: float | None) -> bool:
    if new is None or not isinstance(old, float):
        return old == new
    relative, absolute = next(own for pattern, own in TOLERANCES.items() if re.fullmatch(pattern, path))
    return abs(new - old) <= absolute + relative * abs(old)


@pytest.mark.filterwarnings("ignore:.* by file only, as these templates were changed since")
@pytest.mark.parametrize("case", CASES)
def test_numbers_are_the_golden_ones(case: str):
    golden = dict(numbers(json.loads(Path(HERE, f"{case}.json").read_text()), case))
    today = dict(numbers(evaluate(case), case))
    gone = [path for path in golden if renamed(path) not in today]
    assert not gone, f"{len(gone)} of {len(golden)} numbers are not in the report: {gone[:10]}"
    changed = [
        f"{path}: {old} → {new}" for path, old in golden.items() if not same(path, old, new := today[renamed(path)])
    ]
    assert not changed, f"{len(changed)} of {len(golden)} numbers changed:\n" + "\n".join(changed[:20])


def test_every_evaluation_has_a_case():
    assert {command.split()[0] for command in CASES.values()} == set(EVALUATIONS)
