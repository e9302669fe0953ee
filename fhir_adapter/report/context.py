"""What the templates see: plain, finished values in the order of the page.

Nothing here computes a number of the study. Displays become tables of pieces, accounting and findings
become rows, and everything that differs between two runs on the same data (times, run ids, folders,
servers) is left out, so that unchanged results give an unchanged page.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from markupsafe import Markup

from fhir_adapter.accounting import NOT_NEEDED, Finding
from fhir_adapter.analysis.selection import slug
from fhir_adapter.report.figures.flow import FlowStep, Stage, chart
from fhir_adapter.report.figures.style import Drawing
from fhir_adapter.report.formatting import (
    NOT_ESTIMABLE,
    NOT_REACHED,
    Piece,
    format_cell,
    format_result,
    lower_first,
)
from fhir_adapter.report.methods import MethodGroup, methods
from fhir_adapter.results import Cell, Display, Results
from fhir_adapter.study import Study

__all__ = [
    "Accounting",
    "FigureView",
    "FindingRow",
    "KeyFigure",
    "Page",
    "RowView",
    "Section",
    "TableView",
    "build_page",
]

Gettext = Callable[[str], str]

#: Where a figure stands; a swimmer with the exposure where there is such a section, else with the response.
_FIGURE_SECTION = {
    "waterfall": "response",
    "kaplan_meier": "survival",
    "swimmer": "exposure",
    "forest": "models",
    "subgroups": "subgroups",
    "flow": "flow",
}
#: Sections that hold no display of the analysis, and come after all that do.
_BACK_MATTER = ("methods", "accounting", "findings", "versions")
#: Rows above which a comparison is folded and its differences stand before it.
_LONG = 40
#: Rows of the pull's differences; a server whose counts are wrong throughout has one for each query.
_MOST_DIFFERENCES = 50
_OWN = "own-output"
_NUMERIC = re.compile(r"^[\s<>≤≥≈+−\-–—.,%()\[\]\d]*$|^not reached$")


@dataclass(frozen=True, slots=True)
class RowView:
    """A row of a table; a heading without cells spans the table.

    Attributes:
        label: head of the row.
        level: its indentation.
        cells: as many as the table has columns, less those that the label spans.
        span: columns that the label takes: its own and the empty ones after it, so that a long one has room.
        heading: whether rows below belong to it.
        mark: `equal` or `differs` in a comparison, else empty.
    """

    label: str
    level: int
    cells: tuple[tuple[Piece, ...], ...]
    span: int = 1
    heading: bool = False
    mark: str = ""


@dataclass(frozen=True, slots=True)
class TableView:
    """A table: `columns` are (head, "number" or "text"); a folded one opens on request."""

    id: str
    number: int
    title: str
    stub: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[RowView, ...]
    notes: tuple[str, ...]
    folded: bool = False

    @property
    def wide(self) -> bool:
        """Whether it will scroll on a telephone, so that its first column has to stay in sight."""
        return len(self.columns) > 2

    @property
    def dense(self) -> bool:
        """Whether it has so many columns that it is set smaller."""
        return len(self.columns) > 6


@dataclass(frozen=True, slots=True)
class FigureView:
    """A figure of the page; `svg` is markup of our own making."""

    id: str
    number: int
    title: str
    svg: Markup
    min_width: int
    summary: tuple[tuple[Piece, ...], ...]


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """A number at the top of the page."""

    label: str
    value: tuple[Piece, ...]
    detail: tuple[Piece, ...] = ()


@dataclass(slots=True)
class Section:
    """A section of the page."""

    id: str
    title: str
    tables: list[TableView] = field(default_factory=list)
    figures: list[FigureView] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Page:
    """Everything that the templates show."""

    language: str
    study_id: str
    title: str
    reference: str
    data_cutoff: str
    synthetic: bool
    exploratory: bool
    key_figures: tuple[KeyFigure, ...]
    sections: tuple[Section, ...]
    flow: tuple[Stage, ...]
    methods: tuple[MethodGroup, ...]
    accounting: Accounting
    findings: tuple[FindingRow, ...]
    versions: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Accounting:
    """What became of the resources.

    Attributes:
        types: type, landed, used, not needed, quarantined.
        total: the same four numbers over all types.
        not_needed: reason, its meaning, types with their numbers, number.
        quarantined: the same.
        differences: of queries or files for which the source states another number than came: type, that number or
            None, received, subjects asked for or 0; at most 50.
        more_differences: how many there are beyond these.
    """

    types: tuple[tuple[str, int, int, int, int], ...]
    total: tuple[int, int, int, int]
    not_needed: tuple[tuple[str, str, str, int], ...]
    quarantined: tuple[tuple[str, str, str, int], ...]
    differences: tuple[tuple[str, int | None, int, int], ...] = ()
    more_differences: int = 0

    @property
    def adds_up(self) -> bool:
        """Whether used, not needed and quarantined make what landed, for every type."""
        return all(landed == used + spare + held for _type, landed, used, spare, held in self.types)


@dataclass(frozen=True, slots=True)
class FindingRow:
    """Findings of one code."""

    code: str
    text: str
    stage: str
    number: int
    subjects: int


def build_page(
    *,
    study: Study,
    results: Results,
    accounting: Mapping[str, Any],
    findings: Sequence[Finding],
    manifest: Mapping[str, Any],
    flow: Sequence[FlowStep],
    drawings: Sequence[tuple[str, Drawing]],
    language: str,
    _: Gettext,
) -> Page:
    """Puts the page together.

    Args:
        study: the study definition.
        results: results and displays of the analysis.
        accounting: `accounting.summary`, or a mapping that has it under a key.
        findings: all findings of the run.
        manifest: of which only versions, study hash and the differences of the pull are shown.
        flow: the cohort's steps, each with id, label, n.
        drawings: figures with their kind, in order.
        language: of the fixed strings.
        _: their translation.
    """
    return Page(
        language=language,
        study_id=study.study.id,
        title=study.study.title,
        reference=study.study.reference,
        data_cutoff=results.data_cutoff,
        synthetic=study.study.synthetic or bool(manifest.get("synthetic")),
        exploratory=study.study.exploratory,
        key_figures=tuple(_key_figures(study, results, _)),
        sections=tuple(_sections(study, results, drawings, _)),
        flow=tuple(chart(flow, results)),
        methods=tuple(methods(study, results, _)),
        accounting=_with_differences(_accounting(accounting), manifest),
        findings=tuple(_findings(findings)),
        versions=tuple(_versions(manifest, results, _)),
    )


def _titles(_: Gettext) -> dict[str, str]:
    return {
        "summary": _("Summary"),
        "flow": _("Flow of subjects"),
        "baseline": _("Baseline characteristics"),
        "response": _("Response"),
        "survival": _("Time to event"),
        "subgroups": _("Subgroup analyses"),
        "landmark": _("Landmark analyses"),
        "toxicity": _("Adverse events"),
        "exposure": _("Treatment exposure"),
        "models": _("Models"),
        "sensitivity": _("Sensitivity analyses"),
        "disagreement": _("Investigator and computed response"),
        "published": _("Published against computed"),
        "methods": _("Methods"),
        "accounting": _("Data accounting"),
        "findings": _("Findings in the data"),
        "versions": _("Versions"),
    }


def _sections(
    study: Study, results: Results, drawings: Sequence[tuple[str, Drawing]], _: Gettext
) -> Iterable[Section]:
    """The study's sections in its order; displays of others follow the last one, for nothing is hidden."""
    order = _order(study, results, drawings)
    titles = _titles(_)
    table_number, figure_number = 0, 0
    for name in order:
        section = Section(slug(name), titles.get(name, name.replace("_", " ").replace("-", " ").capitalize()))
        for kind, drawn in drawings:
            if kind != "flow" and _figure_section(kind, order) == name:
                figure_number += 1
                section.figures.append(_figure(drawn, figure_number))
        for display in results.displays:
            if display.section == name and not (name == "flow" and display.id == "flow"):
                for table in _tables(display, table_number + 1, results, study, _):
                    table_number += 1
                    section.tables.append(table)
        if section.tables or section.figures or name in {"summary", "flow", *_BACK_MATTER}:
            yield section


def _order(study: Study, results: Results, drawings: Sequence[tuple[str, Drawing]]) -> list[str]:
    order = list(dict.fromkeys(study.report.sections))
    have = [display.section for display in results.displays]
    missing = [name for name in dict.fromkeys(have) if name not in order]
    for kind, _drawing in drawings:
        name = _FIGURE_SECTION[kind]
        if name not in order and name not in missing and kind != "swimmer":
            missing.append(name)
    front = [index for index, name in enumerate(order) if name not in _BACK_MATTER]
    at = front[-1] + 1 if front else 0
    order[at:at] = missing
    return order if "versions" in order else [*order, "versions"]


def _figure_section(kind: str, order: Sequence[str]) -> str:
    name = _FIGURE_SECTION[kind]
    return (
        name
        if name in order
        else next((other for other in ("response", "survival") if other in order), "versions")
    )


def _figure(drawn: Drawing, number: int) -> FigureView:
    return FigureView(
        id=drawn.id,
        number=number,
        title=drawn.title,
        svg=Markup(drawn.page),  # noqa: S704 - made by figures.style, which escapes every text
        min_width=drawn.min_width,
        summary=tuple(drawn.summary),
    )


def _table(display: Display, number: int, results: Results, study: Study, _: Gettext) -> TableView:
    # In a comparison with printed numbers both stand as printed, without units.
    units = "% months days mm years" if display.section == "published" else ""
    rows: list[RowView] = []
    above = ""
    width = len(display.columns)
    for position, row in enumerate(display.rows):
        if len(row.cells) > width:
            raise ValueError(
                f"the display {display.id} has a row of {len(row.cells)} cells and {width} columns"
            )
        if not row.cells:
            above = row.label
        cells = tuple(
            format_cell(cell, results, named=f"{display.title} {above} {head} {row.label} {units}")
            for cell, head in zip(row.cells, display.columns, strict=False)
        )
        empty = next(
            (index for index, cell in enumerate(row.cells) if cell.form != "text" or cell.text), width
        )
        if cells:
            cells += ((),) * (width - len(cells))
        mark = next((p.kind for pieces in cells for p in pieces if p.kind in {"equal", "differs"}), "")
        below = display.rows[position + 1].level if position + 1 < len(display.rows) else 0
        heading = not row.cells or (row.level == 0 and below > 0 and empty > 0)
        rows.append(RowView(row.label, row.level, cells[empty:], 1 + empty, heading, mark))
    return TableView(
        id=f"table-{slug(display.id)}",
        number=number,
        title=display.title,
        stub=display.stub,
        columns=tuple(
            (head.replace("% CI", "%\N{NO-BREAK SPACE}CI"), _alignment(display, index))
            for index, head in enumerate(display.columns)
        ),
        rows=tuple(rows),
        notes=tuple(_notes(display, rows, results, study, _)),
    )


def _tables(display: Display, number: int, results: Results, study: Study, _: Gettext) -> Iterable[TableView]:
    """One table; of a long comparison two: what differs, and all of it, folded."""
    whole = _table(display, number, results, study, _)
    differing = [row for row in whole.rows if row.mark == "differs"]
    if len(whole.rows) <= _LONG or not any(row.mark for row in whole.rows):
        yield whole
        return
    if differing:
        kept: list[RowView] = []
        heading: RowView | None = None
        for row in whole.rows:
            if not row.cells:
                heading = row
            elif row.mark == "differs":
                kept += [heading] if heading is not None else []
                kept.append(row)
                heading = None
        title = _("{title}: what differs").format(title=whole.title)
        yield replace(whole, id=f"{whole.id}-differences", title=title, rows=tuple(kept))
    notes = () if differing else whole.notes
    yield replace(whole, number=number + bool(differing), notes=notes, folded=True)


def _alignment(display: Display, index: int) -> str:
    """`text` for a column of words, `number` for all others."""
    cells = [row.cells[index] for row in display.rows if index < len(row.cells)]
    filled = [cell for cell in cells if cell.form != "text" or cell.text]
    words = sum(cell.form == "text" and not _NUMERIC.match(cell.text) for cell in filled)
    return "text" if 2 * words > len(filled) else "number"


def _notes(
    display: Display, rows: Sequence[RowView], results: Results, study: Study, _: Gettext
) -> Iterable[str]:
    """The display's notes, then what its abbreviations and P values ask for."""
    yield from display.notes
    nulls = {
        piece.text.strip("()") for row in rows for cell in row.cells for piece in cell if piece.kind == "null"
    }
    nulls |= {
        piece.text.strip("()")
        for row in rows
        for cell in row.cells
        for piece in cell
        if piece.kind == "share" and piece.title
    }
    explained = []
    if NOT_REACHED in nulls:
        explained.append(_("NR, not reached"))
    if NOT_ESTIMABLE in nulls:
        explained.append(_("NE in place of a number, not estimable"))
    if explained:
        yield "; ".join(explained) + "."
    has_p = any(
        cell.form == "p" and results[cell.results[0]].value is not None
        for row in display.rows
        for cell in row.cells
    )
    if has_p and study.study.exploratory:
        yield _("P values are exploratory.")


def _interval(results: Results, stem: str, _: Gettext) -> tuple[Piece, ...]:
    bounds = [results.results.get(f"{stem}.{part}") for part in ("lower", "upper")]
    if bounds[0] is None or bounds[1] is None:
        return ()
    return (
        Piece(_("95% CI") + " "),
        *format_cell(Cell("range", (bounds[0].id, bounds[1].id)), results, named="% months days"),
    )


def _key_figures(study: Study, results: Results, _: Gettext) -> Iterable[KeyFigure]:
    """The numbers that a reader looks for first, as far as the study has them."""
    known = results.results
    if "flow.analysed.n" in known:
        treated = known.get("flow.treated.n")
        detail = (Piece(_("of") + " "), format_result(treated), Piece(" " + _("treated"))) if treated else ()
        yield KeyFigure(_("Subjects analysed"), (format_result(known["flow.analysed.n"]),), detail)
    for name, label in (("orr", _("Objective response rate")), ("dcr", _("Disease control rate"))):
        if f"response.total.{name}.pct" in known:
            value = format_cell(Cell("pct", (f"response.total.{name}.pct",)), results)
            yield KeyFigure(label, value, _interval(results, f"response.total.{name}", _))
    for kind in ("PFS", "OS"):
        endpoint = next((item for item in study.endpoints if item.kind == kind), None)
        if endpoint is None:
            continue
        stem = f"survival.{slug(endpoint.id)}"
        if f"{stem}.median" in known:
            value = format_cell(Cell("value", (f"{stem}.median",)), results)
            label = _("Median {endpoint}").format(endpoint=lower_first(endpoint.label))
            yield KeyFigure(label, value, _interval(results, stem, _))
    name = "related" if study.toxicity.related_only else "emergent"
    if f"toxicity.{name}.n" in known and f"toxicity.{name}.pct" in known:
        label = _("Any related adverse event") if name == "related" else _("Any adverse event")
        number = format_result(known[f"toxicity.{name}.n"])
        share = format_cell(Cell("pct", (f"toxicity.{name}.pct",)), results)
        yield KeyFigure(label, share, (number, Piece(" " + _("subjects"))))
    stem = "survival.followup.observed"
    if f"{stem}.median" in known:
        value = format_cell(Cell("value", (f"{stem}.median",)), results)
        bounds = [known.get(f"{stem}.{part}") for part in ("min", "max")]
        span: tuple[Piece, ...] = ()
        if bounds[0] is not None and bounds[1] is not None:
            ends = format_cell(Cell("range", (bounds[0].id, bounds[1].id)), results, named="months days")
            span = (Piece(_("range") + " "), *ends)
        yield KeyFigure(_("Median follow-up"), value, span)


def _by_type(accounting: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The table of `accounting.summary` inside what the run wrote, without the adapter's own output.

    What one run writes back, the next may meet on the server; counting it would change the page, and with it
    what is written back, for ever. `accounting.json` counts it.
    """

    def is_table(value: object) -> bool:
        return isinstance(value, Mapping) and all(
            isinstance(row, Mapping) and "used" in row and "quarantined" in row for row in value.values()
        )

    found = accounting if accounting and is_table(accounting) else None
    if found is None:
        found = next((value for value in accounting.values() if value and is_table(value)), {})
    table: dict[str, dict[str, Any]] = {}
    for name, row in found.items():
        not_needed = {reason: number for reason, number in row["not_needed"].items() if reason != _OWN}
        total = row["total"] - row["not_needed"].get(_OWN, 0)
        if total:
            table[name] = {**row, "not_needed": not_needed, "total": total}
    return table


def _accounting(accounting: Mapping[str, Any]) -> Accounting:
    table = _by_type(accounting)
    types = tuple(
        (
            name,
            int(row["total"]),
            int(row["used"]),
            sum(row["not_needed"].values()),
            sum(row["quarantined"].values()),
        )
        for name, row in sorted(table.items())
    )
    sums = [sum(column) for column in zip(*(row[1:] for row in types), strict=True)] or [0, 0, 0, 0]
    return Accounting(
        types,
        (sums[0], sums[1], sums[2], sums[3]),
        _reasons(table, "not_needed"),
        _reasons(table, "quarantined"),
    )


def _with_differences(accounting: Accounting, manifest: Mapping[str, Any]) -> Accounting:
    """The accounting with what the source states otherwise than it came, which is not in the landing's sums."""
    found = sorted(
        (
            (item["type"], item["expected"], item["received"], item["subjects"])
            for item in (manifest.get("pull") or {}).get("differences") or ()
        ),
        key=lambda row: (row[0], -1 if row[1] is None else row[1], *row[2:]),
    )
    shown = tuple(found[:_MOST_DIFFERENCES])
    return replace(accounting, differences=shown, more_differences=len(found) - len(shown))


def _reasons(table: Mapping[str, Mapping[str, Any]], part: str) -> tuple[tuple[str, str, str, int], ...]:
    counts: dict[str, Counter[str]] = {}
    for name, row in table.items():
        for reason, number in row[part].items():
            counts.setdefault(str(reason), Counter())[name] += int(number)
    return tuple(
        (
            reason,
            NOT_NEEDED.get(reason, "") if part == "not_needed" else "",
            ", ".join(f"{name} {number}" for name, number in sorted(by_type.items())),
            sum(by_type.values()),
        )
        for reason, by_type in sorted(counts.items(), key=lambda item: (-sum(item[1].values()), item[0]))
    )


def _findings(findings: Sequence[Finding]) -> Iterable[FindingRow]:
    """Counts by code, most frequent first; the text is the first of the code in order of the text."""
    by_code: dict[str, list[Finding]] = {}
    for finding in findings:
        by_code.setdefault(finding.code, []).append(finding)
    for code, found in sorted(by_code.items(), key=lambda item: (-len(item[1]), item[0])):
        subjects = {finding.usubjid for finding in found if finding.usubjid}
        stages = sorted({finding.stage for finding in found})
        yield FindingRow(
            code, min(finding.text for finding in found), ", ".join(stages), len(found), len(subjects)
        )


def _versions(manifest: Mapping[str, Any], results: Results, _: Gettext) -> Iterable[tuple[str, str]]:
    yield _("Study"), results.study
    yield _("Data cut-off"), results.data_cutoff
    for key, label in (
        ("study_sha256", _("Study file (SHA-256)")),
        ("study_hash", _("Study file (SHA-256)")),
    ):
        if manifest.get(key) is not None:
            yield label, str(manifest[key])
    versions = manifest.get("versions")
    if isinstance(versions, Mapping):
        for name, value in sorted(versions.items()):
            yield str(name), str(value)
