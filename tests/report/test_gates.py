"""Conditions of --fail-if: what can be written, what each means, and what is refused."""

from __future__ import annotations

import math

import pytest

from facedecode.errors import UsageError
from facedecode.report.gates import check_gates, figure_name, parse_gate, rates_of
from facedecode.statistics.bootstrap import Estimate

FIGURES = {
    "tar@far=0.001": Estimate(0.92, 0.89, 0.94, 496),
    "psnr[ridge]": Estimate(13.96, None, None, 1),
    "eer": Estimate(math.nan, math.nan, math.nan, 0),
    "psnr[originals]": Estimate(math.inf, None, None, 3),
}


def passes(condition: str) -> bool:
    (result,) = check_gates([parse_gate(condition)], FIGURES)
    return result.passed


@pytest.mark.parametrize(
    ("condition", "name", "rate", "part", "sign", "limit"),
    [
        ("tar@far=0.001 < 0.9", "tar@far=0.001", ("far", 0.001), "value", "<", 0.9),
        ("tar@far=1e-3<.9", "tar@far=0.001", ("far", 0.001), "value", "<", 0.9),
        ("  eer   >=  1e-2 ", "eer", None, "value", ">=", 0.01),
        ("low(tar@far=0.001) <= 0.85", "tar@far=0.001", ("far", 0.001), "low", "<=", 0.85),
        ("high( eer ) > 0.02", "eer", None, "high", ">", 0.02),
        ("type2[ridge,b-x]@fmr=1e-4 > 0.5", "type2[ridge,b-x]@fmr=0.0001", ("fmr", 1e-4), "value", ">", 0.5),
        ("type2[ridge, b]@fmr=0.1 > -1", "type2[ridge,b]@fmr=0.1", ("fmr", 0.1), "value", ">", -1.0),
        ("psnr[my decoder] < 13", "psnr[my decoder]", None, "value", "<", 13.0),
        ("low(psnr[a=b]) < 13", "psnr[a=b]", None, "low", "<", 13.0),
    ],
)  # fmt: skip
def test_conditions_are_read(condition, name, rate, part, sign, limit) -> None:
    gate = parse_gate(condition)
    assert (gate.text, gate.name, gate.rate) == (condition, name, rate)
    assert (gate.part, gate.sign, gate.limit) == (part, sign, limit)


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("", "give a condition"),
        ("tar@far=0.001", "give a condition"),
        ("tar@far=0.001 <", "give a condition"),
        ("tar@far=0.001 == 0.9", "give a condition"),
        ("tar@far=0.001 = 0.9", "give a condition"),
        ("median(tar@far=0.001) < 0.9", "give a condition"),
        ("low(tar@far=0.001 < 0.9", "give a condition"),
        ("0.8 < tar@far=0.001 < 0.9", "give a condition"),
        ("0.9 > eer", "not the name of a figure"),
        ("TAR@far=0.001 < 0.9", "not the name of a figure"),
        ("tar@far < 0.9", "not the name of a figure"),
        ("tar@=0.1 < 0.9", "not the name of a figure"),
        ("psnr[] < 9", "not the name of a figure"),
        ("tar@far=x < 0.9", "'x' is not a number"),
        ("tar@far=nan < 0.9", "'nan' is not a number"),
        ("eer > high", "'high' is not a number"),
        ("eer > nan", "'nan' is not a number"),
        ("eer > inf", "'inf' is not a number"),
        ("eer > 1%", "'1%' is not a number"),
    ],
)
def test_what_is_no_condition_is_refused_in_one_line(condition: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as error:
        parse_gate(condition)
    assert repr(condition) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("sign", "below", "equal", "above"),
    [("<", False, True, True), ("<=", False, False, True), (">", True, True, False), (">=", True, False, False)],
)
def test_a_gate_fails_where_its_condition_holds(sign: str, below: bool, equal: bool, above: bool) -> None:
    for value, passed in ((0.91, below), (0.92, equal), (0.93, above)):
        figures = {"tar": Estimate(value, None, None, 9)}
        (result,) = check_gates([parse_gate(f"tar {sign} 0.92")], figures)
        assert result.passed is passed


def test_the_ends_of_the_interval_are_put_to_the_gate() -> None:
    assert passes("tar@far=0.001 < 0.91")
    assert not passes("low(tar@far=0.001) < 0.91")
    assert passes("low(tar@far=0.001) < 0.89")
    assert not passes("high(tar@far=0.001) > 0.93")
    assert passes("high(tar@far=0.001) > 0.94")


@pytest.mark.parametrize(
    "condition", ["low(psnr[ridge]) < 1", "high(psnr[ridge]) > 99", "eer > 9", "eer < -9", "low(eer) < -9"]
)
def test_a_figure_without_a_number_does_not_pass(condition: str) -> None:
    (result,) = check_gates([parse_gate(condition)], FIGURES)
    assert not result.passed
    assert result.as_json() == {"condition": condition, "figure": result.gate.name, "value": None, "passed": False}


def test_infinity_is_no_number_that_json_has() -> None:
    (result,) = check_gates([parse_gate("psnr[originals] < 10")], FIGURES)
    assert (result.value, result.passed) == (None, False)


def test_a_gate_on_a_figure_that_is_not_there_is_missed() -> None:
    for figures in (FIGURES, {}):
        (result,) = check_gates([parse_gate("tar@far=0.01 < 0.9")], figures)
        assert (result.value, result.passed) == (None, False)


@pytest.mark.parametrize("rate", ["0.001", "1e-3", "1E-3", "0.0010", ".001"])
def test_one_rate_in_any_spelling_is_one_figure(rate: str) -> None:
    assert passes(f"tar@far={rate} < 0.9")


def test_names_that_are_made_are_names_that_are_read() -> None:
    for name in (
        figure_name("eer"),
        figure_name("type2", ["ridge", "edgeface-xxs"], fmr=1e-4),
        figure_name("tar", far=1e-7),
        figure_name("psnr", ["mean face"]),
    ):
        assert parse_gate(f"{name} < 1").name == name


def test_rates_of_gates_are_listed_by_kind() -> None:
    gates = [parse_gate(text) for text in ("tar@far=0.01 < 1", "eer > 1", "type1@fmr=0.1 > 1", "tar@far=1e-5 < 1")]
    assert rates_of(gates, "far") == [0.01, 1e-5]
    assert rates_of(gates, "far", "fmr") == [0.01, 0.1, 1e-5]
