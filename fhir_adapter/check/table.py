"""The report of a check for people: plain text, line by line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fhir_adapter.check.report import Report, plain

__all__ = ["lines"]

#: Rows of a list of codes that are shown; `--json` has them all.
SHOWN = 40


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[number]) for row in cells) for number in range(len(head))]
    for number, row in enumerate(cells):
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        if number == 0:
            yield "  " + "  ".join("-" * width for width in widths)


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}".replace(",", " ")


def _needs(report: Report) -> Iterator[str]:
    yield "What the run needs"
    order = {"refused": 0, "not stated": 1, "supported": 2}
    rows = sorted(report.needs, key=lambda item: order[item.state])
    yield from _table(
        ("state", "of", "need", "what it means for the run"),
        [(item.state, item.subject, item.need, plain(item.means, 300)) for item in rows],
    )


def _counts(report: Report) -> Iterator[str]:
    yield f"What each query brings ({_number(report.subjects)} candidates)"
    rows = [
        (item.query, _number(item.number), item.how, report.read.get(item.type, 0)) for item in report.counts
    ]
    yield from _table(("query", "resources", "counted by", "read here"), rows)


def _codes(report: Report) -> Iterator[str]:
    sample = f"of a sample: the first {report.limit} resources of each type"
    scope = "of all resources" if report.complete else sample
    reported = sum(item.reported for item in report.unknown)
    yield f"Codes that no map knows, {scope}: {len(report.unknown)}, of which a run reports {reported}"
    rows = [
        (
            item.count,
            "yes" if item.reported else "no",
            item.concept_map,
            item.element,
            item.system or "-",
            item.code or "(text)",
            item.display,
        )
        for item in report.unknown[:SHOWN]
    ]
    if rows:
        yield from _table(("resources", "reported", "map", "element", "system", "code", "display"), rows)
    if len(report.unknown) > SHOWN:
        yield f"  ... and {len(report.unknown) - SHOWN} more; --json has all"
    for text in report.text_only:
        yield (
            f"  {text.count} x {text.element}: wording without a code that the map {text.concept_map} does not "
            f"know{', and a run reports some' if text.reported else ''} (not shown: it may name a person; "
            "--show-text shows it)"
        )


def _unselected(report: Report) -> Iterator[str]:
    number = sum(item.count for item in report.unselected)
    yield f"Codes by which no view selects a resource: {len(report.unselected)}, on {_number(number)} resources"
    rows = [
        (item.count, item.element, item.system or "-", item.code or "(text only)", item.display)
        for item in report.unselected[:SHOWN]
    ]
    yield from _table(("resources", "element", "system", "code", "display"), rows)
    if len(report.unselected) > SHOWN:
        yield f"  ... and {len(report.unselected) - SHOWN} more; --json has all"


def _filters(report: Report) -> Iterator[str]:
    yield "What a search by code would lose (the plan searches by subject and type)"
    rows = []
    for item in report.filters:
        if item.needed is None:
            verdict = "this filter is the study's own; what is coded otherwise makes no candidate"
        elif item.lost:
            verdict = f"loses {item.lost} of {item.needed} that the study uses, of {item.subjects} subjects"
        else:
            verdict = f"loses none of {item.needed} that the study uses, as far as was read"
        filtered = "-" if item.filtered is None else _number(item.filtered)
        rows.append((item.query, item.codes, _number(item.without), filtered, verdict))
    yield from _table(("query", "codes", "without", "with", "the filter"), rows)


def lines(report: Report) -> Iterator[str]:
    """The report, line by line."""
    server = " ".join(plain(item) for item in report.server.values())
    yield f"Study {report.study} at site {report.site} ({server or report.source})"
    for part, wanted in (
        (_needs, True),
        (_counts, True),
        (_codes, True),
        (_unselected, bool(report.unselected)),
        (_filters, bool(report.filters)),
    ):
        if wanted:
            yield ""
            yield from part(report)
    yield ""
    if report.blocked:
        first = report.blocked[0]
        yield f"A run would end with status {first.status} ({first.code}): {plain(first.what, 300)}"
    else:
        yield "A run would go through."
