"""Response tables: best overall response, objective response and disease control, by subgroup, with tests.

Ids: `response.total.cr.n`, `response.<subgroup>.<level>.orr.pct|lower|upper`, `response.<subgroup>.orr_test.p`;
`response.<subgroup>.orr_difference.estimate|lower|upper` (percentage points) and `.orr_odds_ratio.…`.
A table on a population other than `full` has that population after `response.`.
"""

from __future__ import annotations

from typing import Any

from fhir_adapter.analysis import comparisons
from fhir_adapter.analysis.levels import subgroup_levels
from fhir_adapter.analysis.selection import Analysis, both, equals, slug
from fhir_adapter.conditions import Comparison, Condition
from fhir_adapter.results import Cell, Display, Row
from fhir_adapter.study import ResponseTable, Subgroup

__all__ = ["response_tables"]

_MEMBERS: dict[str, list[str | int | float | bool]] = {
    "ORR": ["CR", "PR"],
    "DCR": ["CR", "PR", "SD", "NON-CR/NON-PD"],
}
_FLAG = {"ORR": "RSPFL", "DCR": "DCFL", "CBR": "CBFL"}
_HEAD = {"ORR": "ORR, % (95% CI)", "DCR": "DCR, % (95% CI)", "CBR": "CBR, % (95% CI)"}
# Best response by RECIST 1.1 and the words of iRECIST that stand beside it.
_IMMUNE = (
    ("CR", ("iCR",)),
    ("PR", ("iPR",)),
    ("SD", ("iSD",)),
    ("NON-CR/NON-PD", ("NON-iCR/NON-iUPD",)),
    ("PD", ("iCPD", "iUPD")),
    ("NE", ("NE", "MISSING")),
)


def _condition(column: str) -> Comparison:
    if column in _FLAG:
        return equals(_FLAG[column], "Y")
    if column == "NE":
        return Comparison(variable="BOR", op="in", value=["NE", "MISSING", "ND"])
    return equals("BOR", column)


def _rate(
    analysis: Analysis,
    table: ResponseTable,
    id_: str,
    n: int,
    total: int,
    condition: Condition | None,
    column: str,
) -> Cell:
    """The interval of a rate, and the cell with estimate and interval."""
    if table.interval is None:
        return Cell("pct", (f"{id_}.pct",))
    method = table.interval
    interval = comparisons.INTERVALS[method](n, total)
    for name, bound in (("lower", interval.lower), ("upper", interval.upper)):
        analysis.add(
            f"{id_}.{name}", None if bound is None else 100 * bound, "interval_bound", dataset="ADSL",
            population=table.population, condition=condition, variable="BOR", unit="%", digits=1,
            reason="" if bound is not None else "no subjects", method=f"95% {method.replace('_', '-').title()}",
        )  # fmt: skip
    return Cell("estimate_ci", (f"{id_}.pct", f"{id_}.lower", f"{id_}.upper"))


def _cells(analysis: Analysis, table: ResponseTable, stem: str, within: Condition | None) -> tuple[Cell, ...]:
    total = len(analysis.rows("ADSL", table.population, within))
    analysis.add(
        f"{stem}.n", total, "n_subjects", dataset="ADSL", population=table.population, condition=within, unit="n",
        digits=0,
    )  # fmt: skip
    cells = [Cell("n", (f"{stem}.n",))]
    for column in table.columns:
        condition = both(within, _condition(column))
        id_ = f"{stem}.{slug(column)}"
        n, pct = analysis.count(id_, "ADSL", table.population, condition, denominator=total, variable="BOR")
        if column in _FLAG:
            responders = analysis.results[n].value
            cells.append(_rate(analysis, table, id_, int(responders or 0), total, condition, column))
        else:
            cells.append(Cell("n_pct", (n, pct)))
    return tuple(cells)


def _test(
    analysis: Analysis,
    table: ResponseTable,
    stem: str,
    subgroup: Subgroup,
    levels: list[str],
    column: str,
    name: str,
) -> Row:
    """The named test between the levels on responders and others."""
    counts = []
    for level in levels:
        inside = equals(subgroup.variable, level)
        total = len(analysis.rows("ADSL", table.population, inside))
        yes = len(analysis.rows("ADSL", table.population, both(inside, _condition(column))))
        counts.append([yes, total - yes])
    # A table without any subject still has two (empty) groups, so that the test itself says why there is no P.
    outcome = comparisons.TESTS[name](counts or [[0, 0], [0, 0]])
    known = Comparison(variable=subgroup.variable, op="not_null")
    selector: dict[str, Any] = {
        "dataset": "ADSL",
        "population": table.population,
        "condition": known,
        "variable": "BOR",
    }
    kind = slug(column)
    for part, value, digits in (
        ("p", outcome.p, 4),
        ("statistic", outcome.statistic, 4),
        ("df", outcome.df, 0),
    ):
        if value is None and part != "p":
            continue
        analysis.add(
            f"{stem}.{kind}_test.{part}", value, f"test:{name}", unit="p" if part == "p" else "", digits=digits,
            method=outcome.method, reason=outcome.reason or "", **selector,
        )  # fmt: skip
    shown = ", ".join(f"{yes}/{yes + no}" for yes, no in counts)
    blank = [Cell("text")] * (1 + table.columns.index(column))
    label = f"P for {column} ({outcome.method}; {shown})"
    return Row(label=label, cells=(*blank, Cell("p", (f"{stem}.{kind}_test.p",))), level=1)


def _comparison(
    analysis: Analysis,
    table: ResponseTable,
    stem: str,
    subgroup: Subgroup,
    levels: list[str],
    column: str,
) -> list[Row]:
    """Difference and odds ratio of the first level against the second, as the table asks for them."""
    first, second = levels
    members: list[str | int | float | bool] = [first, second]
    known = Comparison(variable=subgroup.variable, op="in", value=members)
    counts: list[int] = []
    for level in levels:
        inside = equals(subgroup.variable, level)
        counts.append(len(analysis.rows("ADSL", table.population, both(inside, _condition(column)))))
        counts.append(len(analysis.rows("ADSL", table.population, inside)))
    wanted: list[tuple[str, comparisons.Interval, str, str, float, int]] = []
    if table.difference is not None:
        interval = comparisons.DIFFERENCES[table.difference](*counts)
        wanted.append(("difference", interval, "Difference in {}, percentage points", "%", 100.0, 1))
    if table.odds_ratio is not None:
        interval = comparisons.ODDS_RATIOS[table.odds_ratio](*counts)
        wanted.append(("odds_ratio", interval, "Odds ratio of {}", "ratio", 1.0, 2))
    against = " against ".join(subgroup.level_labels.get(level, level) for level in levels)
    rows = []
    for name, interval, label, unit, scale, digits in wanted:
        at = f"{stem}.{slug(column)}_{name}"
        ids = [
            analysis.add(
                f"{at}.{part}", None if value is None else scale * value, f"interval:{name}", dataset="ADSL",
                population=table.population, condition=known, variable="BOR", unit=unit, digits=digits,
                method=f"{against}, 95% {interval.method}",
                reason="" if value is not None else (interval.reason or "infinite"),
            )
            for part, value in (
                ("estimate", interval.estimate), ("lower", interval.lower), ("upper", interval.upper),
            )
        ]  # fmt: skip
        blank = [Cell("text")] * (1 + table.columns.index(column))
        words = f"{label.format(column)}, {against} (95% CI, {interval.method})"
        rows.append(Row(label=words, cells=(*blank, Cell("estimate_ci", tuple(ids))), level=1))
    return rows


def _subgroup_rows(
    analysis: Analysis, table: ResponseTable, stem: str, subgroup: Subgroup
) -> tuple[list[Row], str]:
    subjects = analysis.population(table.population)
    levels, gone = subgroup_levels(subgroup, subjects)
    rows = [Row(label=subgroup.label)]
    for level in levels:
        inside = equals(subgroup.variable, level)
        label = subgroup.level_labels.get(level, level)
        depth = 2 if level in subgroup.parent else 1
        cells = _cells(analysis, table, f"{stem}.{slug(level)}", inside)
        rows.append(Row(label=label, cells=cells, level=depth))
    tests = [("ORR", subgroup.orr_test), ("DCR", subgroup.dcr_test)]
    rows += [
        _test(analysis, table, stem, subgroup, levels, column, name)
        for column, name in tests
        if name is not None and column in table.columns
    ]
    if len(levels) == 2:
        for column in _FLAG:
            if column in table.columns:
                rows += _comparison(analysis, table, stem, subgroup, levels, column)
    notes = []
    if (table.difference or table.odds_ratio) and len(levels) == 1:
        notes.append(f"{subgroup.label}: one level has subjects, so that nothing can be compared.")
    if gone:
        notes.append(f"{subgroup.label}: no subjects in {', '.join(gone)}.")
    missing = int(subjects[subgroup.variable].isna().sum())
    if missing:
        notes.append(f"{subgroup.label}: not recorded for {missing}.")
    return rows, " ".join(notes)


def response_tables(analysis: Analysis) -> None:
    """Adds every response table of the study, and iRECIST beside RECIST 1.1: results and displays."""
    for table in analysis.study.response_tables:
        root = "response" if table.population == "full" else f"response.{table.population}"
        rows: list[Row] = []
        notes: list[str] = []
        if table.total:
            rows.append(Row(label="Total", cells=_cells(analysis, table, f"{root}.total", None)))
        for name in table.subgroups:
            subgroup = analysis.study.subgroup(name)
            more, note = _subgroup_rows(analysis, table, f"{root}.{slug(name)}", subgroup)
            rows += more
            notes += [note] if note else []
        best = analysis.study.response.best
        kind = "confirmed" if best.confirmed else "unconfirmed"
        notes.insert(
            0, f"Best overall response, {kind}, {analysis.study.response.criteria_label}; n (%) of the group."
        )
        if "NE" in table.columns:
            notes.append("NE: not evaluable or no assessment; it stays in the denominator.")
        analysis.results.displays.append(
            Display(
                id=f"response_{table.id}",
                title=table.title,
                section="response",
                stub="Group",
                columns=(
                    "N",
                    *(_HEAD.get(column, column) if table.interval else column for column in table.columns),
                ),
                rows=tuple(rows),
                notes=tuple(notes),
            )
        )
    _immune_response_table(analysis)


def _immune_response_table(analysis: Analysis) -> None:
    """Best overall response by iRECIST beside that by RECIST 1.1, where the study derives it.

    Ids: `irecist.bor.cr.n`, `irecist.ibor.icr.n`, `irecist.orr.n`, `irecist.iorr.n`; of the full analysis set.
    """
    if not analysis.study.response.irecist:
        return
    population = "full"

    def immune(words: tuple[str, ...]) -> Condition | None:
        return both(equals("PARAMCD", "IBOR"), Comparison(variable="AVALC", op="in", value=list(words)))

    def pair(stem: str, dataset: str, condition: Condition | None, variable: str) -> Cell:
        return Cell("n_pct", analysis.count(stem, dataset, population, condition, variable=variable))

    rows = []
    for word, others in _IMMUNE:
        first = True
        for other in others:
            shown = {"MISSING": "no assessment"}.get(other, other)
            own = (
                pair(f"irecist.bor.{slug(word)}", "ADSL", _condition(word), "BOR") if first else Cell("text")
            )
            beside = pair(f"irecist.ibor.{slug(other)}", "ADRS", immune((other,)), "AVALC")
            rows.append(
                Row(label=f"{word} / {shown}" if first else shown, cells=(own, beside), level=int(not first))
            )
            first = False
    responders = pair("irecist.orr", "ADSL", _condition("ORR"), "BOR")
    rows.append(
        Row(
            label="Objective response",
            cells=(responders, pair("irecist.iorr", "ADRS", immune(("iCR", "iPR")), "AVALC")),
        )
    )
    analysis.results.displays.append(
        Display(
            id="response_irecist",
            title="Best overall response by iRECIST beside RECIST 1.1",
            section="response",
            stub="Best overall response",
            columns=("RECIST 1.1", "iRECIST"),
            rows=tuple(rows),
            notes=(
                "n (%) of the full analysis set.",
                "iUPD: progression that was neither confirmed nor reset; iCPD: confirmed progression.",
                "iBOR needs neither confirmation of response nor a minimum duration.",
            ),
        )
    )
