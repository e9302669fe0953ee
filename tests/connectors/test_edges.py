"""The edges between two pulls, through the command line: what is written while, before or beside is not lost."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from werkzeug import Request, Response

Operator = Any  # the class stands in conftest.py, which is not importable by name
Server = Any
DAY = dt.timedelta(days=1)


def test_written_while_it_is_pulled(server: Server, operator: Operator) -> None:
    """What a search no longer saw, and is older than the end of the pull, comes with the next one."""
    written: list[str] = []

    def meanwhile(request: Request) -> Response | None:
        if not written and request.path.endswith("/Procedure"):  # the Observations have come
            written.append("meanwhile")
            server.observe("meanwhile", "six-pd", status="final")
            server.now += dt.timedelta(minutes=30)
        return None

    server.before = meanwhile
    assert operator.pull(server.base) == (0, "")
    assert ("Observation", "meanwhile") not in operator.landed()
    server.before = lambda request: None
    server.requests.clear()
    assert operator.pull(server.base) == (0, "")
    assert operator.landed() == set(server.resources)
    assert all("_lastUpdated" in search for search in server.searches("Observation")), "nothing in full"


@pytest.mark.parametrize("late", [dt.timedelta(minutes=4), dt.timedelta(milliseconds=1)])
def test_committed_later_than_it_is_dated(server: Server, operator: Operator, late: dt.timedelta) -> None:
    """A transaction that ends after the pull and is dated before it lies in the overlap."""
    assert operator.pull(server.base) == (0, "")
    now, server.now = server.now, server.now - late
    server.observe("late", "six-pd", status="final")
    server.now = now
    server.requests.clear()
    assert operator.pull(server.base) == (0, "")
    assert operator.landed() == set(server.resources)
    assert all("_lastUpdated" in search for search in server.searches("Observation")), "nothing in full"


@pytest.mark.parametrize("off", [dt.timedelta(days=400), -dt.timedelta(days=400)], ids=["ahead", "behind"])
def test_the_servers_clock_counts(server: Server, operator: Operator, off: dt.timedelta) -> None:
    """Marks are the server's own time: a clock that is a year off loses nothing and pulls nothing again."""
    server.now = dt.datetime.now(dt.UTC).replace(microsecond=0) + off
    server.before = lambda request: None
    for key in list(server.resources):
        server.resources[key]["meta"]["lastUpdated"] = (server.now - DAY).isoformat()
    assert operator.pull(server.base) == (0, "")
    server.now += dt.timedelta(hours=1)
    server.observe("new", "six-pd", status="final")
    assert operator.pull(server.base) == (0, "")
    assert operator.landed() == set(server.resources)
    assert operator.manifest["pull"]["received"]["Observation"] == 1


def test_dated_long_before_it_came(server: Server, operator: Operator) -> None:
    """What an import writes with dates of years ago is told by the count, and the batch is pulled in full."""
    server.now += DAY
    assert operator.pull(server.base) == (0, "")
    now, server.now = server.now, server.now - 1000 * DAY
    server.observe("imported", "six-pd", status="final")
    server.now = now + DAY
    assert operator.pull(server.base) == (0, "")
    assert operator.landed() == set(server.resources)


def test_full_leaves_the_marks_aside(server: Server, operator: Operator) -> None:
    """`--full` asks for everything, and lands nothing twice."""
    assert operator.pull(server.base) == (0, "")
    server.requests.clear()
    assert operator.pull(server.base, "--full") == (0, "")
    assert not [request for request in server.requests if "_lastUpdated" in request.args]
    assert operator.manifest["pull"]["received"]["Observation"] == 63
    assert (operator.manifest["pull"]["outcome"]["new"], operator.manifest["pull"]["outcome"]["changed"]) == (
        0,
        0,
    )
    assert operator.landed() == set(server.resources)
