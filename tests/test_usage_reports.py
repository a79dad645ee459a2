"""A report tells programs and people what calls used and cost, and what more of them would."""

from __future__ import annotations

import math

import pytest

from langgraph_durable import InvalidRequestError
from langgraph_durable.context import UsageReport
from tests.paid_models import record


def report() -> UsageReport:
    """A report of two threads."""
    return UsageReport(
        [
            record(input=1000, output=200, cached=300, cost=0.5),
            record(model="<b>", input=10, output=1, cost=0.001, thread_id="other", purpose="summary"),
            record(failed="Outage", input=None, output=None, model=None),
        ],
        ("thread", "other"),
    )


def test_a_report_sums_by_model_and_purpose() -> None:
    """A report has the sums of all, of each model and of each purpose, the largest first."""
    made = report()
    assert (made.calls, made.failed, made.unknown, made.input, made.output, made.cached) == (3, 1, 0, 1010, 201, 300)
    assert (made.tokens, made.cost, made.known_cost) == (1211, 0.501, 0.501)
    assert list(made.by_model) == ["gpt-4o", "<b>", "unknown"]
    assert made.by_model["gpt-4o"].tokens == 1200
    assert {name: sums.calls for name, sums in made.by_purpose.items()} == {"main": 2, "summary": 1}
    with pytest.raises(TypeError):
        made.by_model["gpt-4o"] = made.sums  # type: ignore[index]  # that is the point


def test_an_unknown_cost_is_not_passed_over() -> None:
    """One answered call without a cost makes the sum unknown, of its model and of all; a failed one does not."""
    made = UsageReport([record(cost=0.5), record(model="other"), record(failed="Outage", input=None)])
    assert (made.cost, made.known_cost, made.by_model["other"].cost) == (None, 0.5, None)
    assert UsageReport([record(cost=0.5), record(failed="Outage")]).cost == 0.5
    assert "0.5000 + unknown" in str(made)


def test_a_report_for_people() -> None:
    """As text and in a notebook a report is a table; names in it are text, whatever they are."""
    text = str(report())
    assert text == repr(report())
    assert text.splitlines()[0] == "2 threads: 3 model calls, 1 failed"
    assert text.splitlines()[-1].split() == ["all", "3", "1,010", "300", "201", "0.5010"]
    assert "<b>" in text
    shown = report()._repr_html_()
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown
    assert "\x1b" not in str(UsageReport([record(model="\x1b[31m")], ("\x1b",)))
    assert str(UsageReport([], ("t",))).splitlines()[0] == "thread 't': 0 model calls"
    assert "1 without a count" in str(UsageReport([record(input=None)]))


def test_an_estimate() -> None:
    """So many threads a day use their share each, in a day, a twelfth of a year and a year."""
    made = report().at(1000)
    assert made.day == pytest.approx((1211 * 500, 0.501 * 500))
    assert made.month == pytest.approx((1211 * 500 * 365.25 / 12, 0.501 * 500 * 365.25 / 12))
    assert made.year == pytest.approx((1211 * 500 * 365.25, 0.501 * 500 * 365.25))
    assert str(made).splitlines()[0] == "at 1,000 threads a day"
    assert "250.5" in str(made)
    assert "<td>a month</td>" in made._repr_html_()
    unknown = UsageReport([record()]).at(2)
    assert (unknown.day, unknown.year.cost) == ((2200, None), None)
    assert "unknown" in str(unknown)
    assert UsageReport([], ()).at(5).year == (0, 0)
    for bad in (-1, math.nan, "many"):
        with pytest.raises(InvalidRequestError, match="threads_per_day"):
            report().at(bad)  # type: ignore[arg-type]  # that is the point
