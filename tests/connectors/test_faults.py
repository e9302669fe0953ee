"""What a server may do wrong, and what a pull makes of it; `test_faults_told.py` has what the operator is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from werkzeug import Request, Response

from fhir_adapter.errors import (
    SourceIncomplete,
    SourceNotFhir,
)


def fhir(body: Any, status: int = 200) -> Response:
    """A response with a FHIR body."""
    return Response(json.dumps(body), status, content_type="application/fhir+json")


HTML = Response("<html><body>Login</body></html>", content_type="text/html")


def broken() -> Response:
    """A response that ends before its Content-Length."""
    return Response(iter([b"{"]), headers={"Content-Length": "1000", "Connection": "close"})


def only(path: str, answer: Response | Callable[[], Response], *, times: int = 10**6) -> Any:
    """Answers requests for a path in its own way, so many times; counts are left alone."""
    left = [times]

    def before(request: Request) -> Response | None:
        if request.path.endswith(path) and "_summary" not in request.args and left[0] > 0:
            left[0] -= 1
            return answer if isinstance(answer, Response) else answer()
        return None

    return before


def test_a_short_outage_is_borne(stub: Any, run: Any) -> None:
    """One 503 with Retry-After is retried and leaves no trace."""
    stub.enrol("a")
    stub.before = only("/Observation", Response("", 503, {"Retry-After": "3600"}), times=1)
    assert run().received["Observation"] == 1


@pytest.mark.parametrize("value", ["Wed, 21 Oct 2125 07:28:00 GMT", "soon", "-1"])
def test_retry_after_in_any_form(stub: Any, run: Any, value: str) -> None:
    """Retry-After as a date in a hundred years, or as nonsense, is held to the ceiling and no error."""
    stub.enrol("a")
    stub.before = only("/Observation", Response("", 429, {"Retry-After": value}), times=1)
    assert run().received["Observation"] == 1


def test_repeated_attempts_wait_for_their_turn(stub: Any, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`requests_per_second` paces every attempt, also those after a 503; the clock is the test's own."""

    class Clock:
        """A clock that moves when somebody sleeps."""

        now = 0.0

        def monotonic(self) -> float:
            """Seconds slept so far."""
            return self.now

        def sleep(self, seconds: float) -> None:
            """Moves the clock."""
            self.now += seconds

    clock = Clock()
    monkeypatch.setattr("fhir_adapter.connectors.http.bounds.time", clock)
    stub.enrol("p1")
    stub.before = only("/Observation", Response("", 503), times=3)
    run(requests_per_second=2, concurrency=1, retry={"attempts": 5, "max_wait_s": 0, "timeout_s": 5})
    assert clock.now == pytest.approx((len(stub.requests) - 1) / 2)


def test_page_that_is_cut(stub: Any, run: Any, landed: Any) -> None:
    """A page that ends too early is asked for again; if it stays so the pull ends without a mark."""
    stub.enrol("a")
    cut = json.dumps({"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Observation"}}]})[
        :-9
    ]
    stub.before = only("/Observation", Response(cut, content_type="application/fhir+json"))
    with pytest.raises(SourceNotFhir, match="JSON that is cut short") as caught:
        run()
    assert caught.value.where.endswith("/fhir/Observation?patient,_count")
    assert "Observation/o-a" not in landed()
    stub.before = only("/Observation", Response(cut, content_type="application/fhir+json"), times=1)
    assert run().received["Observation"] == 1


def test_unreadable_entries_are_kept_and_counted(stub: Any, run: Any, landed: Any) -> None:
    """An entry without id lands as unreadable; an odd subject or meta leaves a resource readable."""
    stub.enrol("a")

    def change(request: Request, bundle: dict[str, Any]) -> None:
        if request.path.endswith("/Observation"):
            bundle["entry"] += [
                {"resource": {"resourceType": "Observation"}},
                {"resource": {"resourceType": "Observation", "id": "odd", "meta": "x", "subject": ["y"]}},
            ]

    stub.change_bundle = change
    stub.counts = lambda type_, number: number + 2 if type_ == "Observation" else number
    report = run(page_size=50)
    assert report.unreadable == 1
    assert "Observation/odd" in landed()


def test_outcome_among_results_is_a_finding(stub: Any, run: Any) -> None:
    """An OperationOutcome in a searchset, with or without its mode, is no match and is told."""
    stub.enrol("a")
    outcome = {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "warning", "code": "informational"}],
    }

    def change(request: Request, bundle: dict[str, Any]) -> None:
        if request.path.endswith("/Observation"):
            bundle["entry"] += [{"resource": outcome}, {"resource": outcome, "search": {"mode": "outcome"}}]

    stub.change_bundle = change
    report = run()
    assert [(f.code, f.number) for f in report.findings] == [("server-note", 2)]
    assert report.received["Observation"] == 1


def test_included_resources_land_and_are_not_counted_as_matches(stub: Any, run: Any, landed: Any) -> None:
    """What a server includes on its own account lands, and the count still agrees."""
    stub.enrol("a")

    def change(request: Request, bundle: dict[str, Any]) -> None:
        if request.path.endswith("/Observation"):
            bundle["entry"].append(
                {"resource": {"resourceType": "Device", "id": "d"}, "search": {"mode": "include"}}
            )

    stub.change_bundle = change
    run()
    assert "Device/d" in landed()


@pytest.mark.parametrize("policy", ["fail", "finding"])
def test_count_that_differs(stub: Any, run: Any, policy: str) -> None:
    """A server that has more than it sends ends the pull, or is a finding, as the site says."""
    stub.enrol("a")
    stub.counts = lambda type_, number: number + 7 if type_ == "Observation" else number
    if policy == "fail":
        with pytest.raises(SourceIncomplete, match="counts 8 Observation, 1 came"):
            run()
        return
    report = run(on_difference="finding")
    assert [(d.type, d.expected, d.received) for d in report.differences] == [("Observation", 8, 1)]
    assert [finding.code for finding in report.findings] == ["count-differs"]


def test_server_without_counts(stub: Any, run: Any) -> None:
    """Where neither _summary=count nor Bundle.total says a number, that is a finding and not an error."""
    stub.enrol("a")
    stub.counts = lambda type_, number: None if type_ == "Observation" else number
    assert [finding.code for finding in run().findings] == ["no-count"]


def test_more_than_max_resources(stub: Any, run: Any) -> None:
    """A source that sends more than the site allows is stopped."""
    stub.enrol("a", "b", "c")
    with pytest.raises(SourceIncomplete, match="max_resources"):
        run(max_resources=5)


def test_last_updated_not_supported(stub: Any, run: Any) -> None:
    """A server that does not know _lastUpdated (400) is asked for everything instead."""
    stub.enrol("a")
    run()
    stub.before = lambda request: Response("{}", 400) if "_lastUpdated" in request.args else None
    assert run().received["Observation"] == 1
