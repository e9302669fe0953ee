"""How numbers are written: each form of a cell, with its results and the text that a reader sees."""

from __future__ import annotations

import pytest

from fhir_adapter.report.formatting import format_cell, format_number, format_p, lower_first, plain
from fhir_adapter.results import Cell, Result, Results


def _results(*values: object, unit: str = "", digits: int | None = 1, reason: str = "") -> Results:
    results = Results(study="s", data_cutoff="2022-07-31")
    for index, value in enumerate(values):
        results.add(
            Result(id=f"r{index}", value=value, rule="x", unit=unit, digits=digits, reason=reason)  # type: ignore[arg-type]
        )
    return results


def _cell(form: str, results: Results) -> Cell:
    return Cell(form, tuple(results.results))


@pytest.mark.parametrize(
    ("form", "values", "unit", "digits", "expected"),
    [
        ("n", (35,), "n", 0, "35"),
        ("pct", (100 * 15 / 57,), "%", 1, "26.3%"),
        ("pct", (100.0,), "%", None, "100.0%"),
        ("value", (9.13,), "months", 1, "9.1 months"),
        ("value", (0.05,), "", 1, "0.1"),  # half away from zero, not to even
        ("value", (-0.05,), "", 1, "−0.1"),
        ("value", (-0.04,), "", 1, "0.0"),  # no negative zero
        ("value", (2.675,), "", 2, "2.68"),  # on the decimal digits, not on the binary number
        ("value", (57.0,), "n", None, "57"),
        ("value", ("PR",), "", None, "PR"),
        ("median_range", (55.0, 18.0, 81.0), "years", 0, "55 [18–81] years"),
        ("median_iqr", (55.0, 44.0, 63.5), "", 0, "55 [44–64]"),
        ("mean_sd", (55.04, 12.31), "", 1, "55.0 (12.3)"),
        ("estimate_ci", (9.1, 5.6, 16.8), "months", 1, "9.1 (5.6–16.8) months"),
        ("range", (-30.0, 20.0), "", 0, "−30 to 20"),  # a minus never meets the dash
        ("range", (2.9, 30.2), "months", 1, "2.9–30.2 months"),
        ("p", (0.00307,), "p", 4, "0.0031"),
        ("p", (0.00009999,), "p", 4, "<0.0001"),
        ("p", (0.0001,), "p", 4, "0.0001"),
        ("p", (1.0,), "p", 4, "1.0000"),
    ],
)
def test_each_form(
    form: str, values: tuple[object, ...], unit: str, digits: int | None, expected: str
) -> None:
    """A cell's text follows from its form and the results' values, digits and unit."""
    results = _results(*values, unit=unit, digits=digits)
    assert expected == plain(format_cell(_cell(form, results), results))


def test_count_and_percentage_carry_their_own_ids() -> None:
    """`n (%)` shows two results, and each number says which one it is."""
    results = Results(study="s", data_cutoff="d")
    results.add(Result(id="x.n", value=13, rule="r", unit="n", digits=0))
    results.add(Result(id="x.pct", value=100 * 13 / 57, rule="r", unit="%", digits=1))
    pieces = format_cell(Cell("n_pct", ("x.n", "x.pct")), results)
    assert plain(pieces) == "13 (22.8)"
    assert [(piece.result, piece.text) for piece in pieces if piece.result] == [
        ("x.n", "13"),
        ("x.pct", "(22.8)"),
    ]


@pytest.mark.parametrize(
    ("reason", "unit", "expected"),
    [
        ("the survival function does not reach 0.5", "months", "NR"),
        ("no event", "months", "NR"),
        ("not reached", "months", "NR"),
        ("", "months", "NR"),
        ("monotone likelihood", "ratio", "NE"),
        ("no subjects", "%", "NE"),
    ],
)
def test_a_number_that_is_not_there(reason: str, unit: str, expected: str) -> None:
    """A null is NR for a time that is not reached, else NE, with its reason and without a unit."""
    results = _results(None, unit=unit, reason=reason)
    (piece,) = format_cell(_cell("value", results), results)
    assert (piece.text, piece.kind) == (expected, "null")
    assert piece.title == (reason or "not reached")


def test_an_upper_bound_that_is_not_reached() -> None:
    """An interval can be open above."""
    results = Results(study="s", data_cutoff="d")
    for name, value in (("median", 13.5), ("lower", 6.8), ("upper", None)):
        results.add(Result(id=name, value=value, rule="r", unit="months", digits=1))
    assert plain(format_cell(Cell("estimate_ci", tuple(results.results)), results)) == "13.5 (6.8–NR) months"


def test_a_unit_is_not_said_twice() -> None:
    """A unit that a heading names is left out of the cell."""
    results = _results(26.3, unit="%")
    assert plain(format_cell(_cell("pct", results), results, named="ORR, % (95% CI)")) == "26.3"


@pytest.mark.parametrize(
    ("text", "kinds"),
    [("✓", ["equal"]), ("≠ a misprint", ["differs", ""]), ("not reached", [""])],
)
def test_marks_of_a_comparison(text: str, kinds: list[str]) -> None:
    """A leading ✓ or ≠ becomes a mark of its own."""
    assert [piece.kind for piece in format_cell(Cell("text", text=text), _results())] == kinds


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (Cell("n", ("unknown",)), "does not exist"),
        (Cell("n_pct", ("r0",)), "has 1 results, not 2"),
        (Cell("sparkline", ("r0",)), "unknown form sparkline"),
    ],
)
def test_a_cell_that_cannot_be_shown_is_an_error(cell: Cell, message: str) -> None:
    """A wrong cell is a defect that is said, not a gap in the page."""
    with pytest.raises(ValueError, match=message):
        format_cell(cell, _results(1))


def test_small_helpers() -> None:
    """Numbers and P values alone, and labels inside sentences."""
    assert format_number(-30.0, 0) == "−30"
    assert format_p(0.04862) == "0.0486"
    assert [lower_first(text) for text in ("Sarcoma type", "FNCLCC grade", "")] == [
        "sarcoma type",
        "FNCLCC grade",
        "",
    ]
