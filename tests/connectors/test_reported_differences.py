"""A server whose counts are not what came, as the reader of the report sees it."""

from __future__ import annotations

import html
import re
from typing import Any


def cells(page: str) -> list[list[str]]:
    """Rows of the page's table of differences."""
    table = re.search(r'<table id="accounting-differences">.*?</table>', page, re.S)
    rows = re.findall(r"<tr>(.*?)</tr>", table[0], re.S) if table else []
    return [[html.unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]


def test_the_page_shows_what_the_server_counts_otherwise(server: Any, operator: Any) -> None:
    """With `on_difference: finding` the report has type, both numbers and subjects; without a difference nothing."""
    assert operator.pull(server.base) == (0, "")
    assert "accounting-differences" not in operator.report()
    assert "other numbers of resources" not in operator.report()
    server.counts = lambda type_, number: number + 5 if type_ == "Observation" else number
    assert operator.pull(server.base, "--full", on_difference="finding") == (0, "")
    assert operator.manifest["pull"]["differences"] == [
        {"type": "Observation", "expected": 68, "received": 63, "subjects": 6}
    ]
    page = operator.report()
    assert cells(page) == [["Type", "Stated", "Received", "Subjects"], ["Observation", "68", "63", "6"]]
    assert "<code>count-differs</code>" in page
    assert "The source states other numbers of resources than came" in page
