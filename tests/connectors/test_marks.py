"""Checkpoints of searches that have ended: they land with what these brought or after it, and soon."""

from __future__ import annotations

import datetime as dt
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from werkzeug import Request, Response

from fhir_adapter.arrivals import Outcome
from fhir_adapter.connectors import PullReport, plan_from_study, pull
from fhir_adapter.errors import AdapterError, LandingError
from fhir_adapter.landing import Landing
from fhir_adapter.site import Site

STUDY = {"research_study": {"system": "urn:test", "value": "S1"}}
SUBJECTS = ("a", "b", "c", "d")

#: The writing process, whose disk is full at one of its batches.
_FULL = """
import sys; sys.path[:] = {{path!r}}
from fhir_adapter.landing import process
written, write = [], process.write
def failing(*arguments):
    written.append(1)
    if len(written) == {number}:
        raise process.UnwritableError("disk full")
    return write(*arguments)
process.write = failing
process.main()
"""


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """More is always on its way: checkpoints wait for it, and searches of one subject are one batch each."""
    monkeypatch.setattr(queue.Queue, "empty", lambda events: False)


def enrol(stub: Any) -> None:
    """Four subjects with three Observations each."""
    stub.enrol(*SUBJECTS)
    for name in SUBJECTS:
        for number in range(2):
            stub.observe(f"o-{name}-{number}", name)


def marked(folder: Path) -> list[str]:
    """Subjects with a checkpoint, once for each."""
    index = sqlite3.connect(folder / "state" / "stub" / "index.sqlite")
    keys = [row[0] for row in index.execute("SELECT key FROM checkpoint")]
    index.close()
    return [key.partition("|")[0].removeprefix("Patient/") for key in keys if key.startswith("Patient/")]


@pytest.mark.usefixtures("apart", "waiting")
@pytest.mark.parametrize("number", range(1, 13))
def test_the_disk_is_full(
    stub: Any, run: Any, landed: Any, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Whichever batch does not land (four subjects, three types that they have), no checkpoint says that it has."""
    enrol(stub)
    with monkeypatch.context() as patch:
        patch.setattr("fhir_adapter.landing.process._PROGRAM", _FULL.format(number=number))
        with pytest.raises(LandingError, match="disk full"):
            run(concurrency=1, subjects_per_query=1)
    run(concurrency=1, subjects_per_query=1)
    assert set(landed()) == {f"{type_}/{id_}" for type_, id_ in stub.resources}


@pytest.mark.usefixtures("apart", "waiting")
def test_the_disk_is_full_while_others_are_compared(
    stub: Any, run: Any, landed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has not landed of a new subject is not marked when it is noticed with another subject's search."""
    enrol(stub)
    run(concurrency=1, subjects_per_query=1)
    stub.now += dt.timedelta(days=1)  # of the others nothing comes
    stub.enrol("e")
    with monkeypatch.context() as patch:
        patch.setattr("fhir_adapter.landing.process._PROGRAM", _FULL.format(number=1))
        with pytest.raises(LandingError, match="disk full"):
            run(concurrency=1, subjects_per_query=1)
    assert "e" not in marked(tmp_path)
    assert "Patient/e" not in landed()


@pytest.mark.usefixtures("apart", "waiting")
def test_everything_is_counted(stub: Any, run: Any) -> None:
    """The report of a pull has what became of its last batch, too."""
    enrol(stub)
    twice = 1 + len(SUBJECTS)  # the study and who takes part come when candidates are looked for, too
    assert run().outcome == Outcome(new=len(stub.resources), unchanged=twice)
    assert run().outcome == Outcome(unchanged=len(stub.resources) + twice)


@pytest.mark.usefixtures("apart", "waiting")
def test_what_came_before_an_error_is_counted(stub: Any, make_site: Callable[..., Site]) -> None:
    """The report of a pull that ends early has what became of the page before."""
    stub.enrol("a")
    for number in range(2):
        stub.observe(f"o-{number}", "a")
    stub.before = lambda request: Response(status=403) if "start" in request.args else None
    site, reports = make_site(stub.base, concurrency=1), list[PullReport]()
    with Landing.open(site.landing_dir) as landing, pytest.raises(AdapterError, match="403"):
        pull(site, plan_from_study(STUDY, ["Observation"]), landing, keep=reports.append)
    with Landing.open(site.landing_dir, read_only=True) as landing:
        assert reports[0].outcome.new == sum(row["total"] for row in landing.counts().values())
        assert landing.counts()["Observation"]["total"] == 2


@pytest.mark.usefixtures("waiting")
def test_a_search_fails(stub: Any, run: Any, tmp_path: Path) -> None:
    """What has ended before is whole: the next pull asks only for what has changed of it."""
    enrol(stub)

    def refuse(request: Request) -> Response | None:
        theirs = request.path.endswith("/Observation") and request.args.get("patient") == "Patient/c"
        return Response(status=403) if theirs else None

    stub.before = refuse
    with pytest.raises(AdapterError, match="403"):
        run(concurrency=1, subjects_per_query=1)
    assert marked(tmp_path).count("b") == marked(tmp_path).count("a")
    stub.before = lambda request: None
    stub.requests.clear()
    run(concurrency=1, subjects_per_query=1)
    whole = {search["patient"] for search in stub.searches("Observation") if "_lastUpdated" not in search}
    assert whole == {"Patient/c", "Patient/d"}


def test_a_server_that_takes_its_time(stub: Any, run: Callable[..., Any], tmp_path: Path) -> None:
    """While nothing else comes, what has ended is marked: a pull that is killed then loses nothing of it."""
    enrol(stub)
    seen: list[bool] = []

    def slow(request: Request) -> None:
        if request.path.endswith("/Observation") and request.args.get("patient") == "Patient/b" and not seen:
            turn = threading.Event()
            for _ in range(1000):
                if marked(tmp_path).count("a") == 2:  # Patient, and Observation
                    break
                turn.wait(0.01)
            seen.append(marked(tmp_path).count("a") == 2)

    stub.before = slow
    run(concurrency=1, subjects_per_query=1, types=["Patient", "Observation"])
    assert seen == [True]
    assert len({marked(tmp_path).count(name) for name in SUBJECTS}) == 1, "the last ones are marked, too"
