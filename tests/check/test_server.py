"""`fhir-adapter check` on a server: what it states, what it does, and what that means for a run."""

from __future__ import annotations

from typing import Any

import pytest
from werkzeug import Response

from fhir_adapter.demo.synthetic.releases import in_release
from fhir_adapter.errors import SourceNotFhir, SourceRefused


def test_a_good_server_is_fine_and_nothing_is_written(server: Any, check: Any, tmp_path: Any) -> None:
    """Status 0; each query has its number; only GET was sent, and no landing was made."""
    server.measure("o1", "a", {"text": "CT"})
    server.measure("o2", "b", {"text": "CT"})
    done = check()
    assert 0 == done.status
    assert {"refused"} & {one["state"] for one in done.report["needs"]} == set()
    assert 2 == done.report["subjects"]
    counts = done.counts()
    assert (2, "_summary=count") == counts["Observation?patient"]
    assert (0, "_summary=count") == counts["AdverseEvent?subject"]
    assert (2, "_summary=count") == counts["ResearchSubject?individual"]
    assert {"GET"} == {request.method for request in server.requests}
    assert not (tmp_path / "state").exists()
    said = check(as_json=False)
    assert 0 == said.status
    assert "A run would go through." in said.out


def test_a_statement_that_lies_is_found_out_by_asking(server: Any, check: Any) -> None:
    """A stated parameter that is ignored would bring other people's resources: a run could not go on."""
    server.measure("o1", "a", {"text": "CT"})
    server.ignored = {"patient"}
    done = check()
    assert 22 == done.status
    state, means = done.needs("Observation")["the parameter patient"]
    assert "refused" == state
    assert "other people's resources" in means
    assert None is done.counts()["Observation?patient"][0]
    assert "status 22" in check(as_json=False).out


def test_what_is_not_stated_is_asked_all_the_same(server: Any, check: Any) -> None:
    """A type that the statement leaves out is left out by a run; check says that the server has it."""
    server.measure("o1", "a", {"text": "CT"})
    del server.types["Observation"]
    done = check()
    assert 0 == done.status
    state, means = done.needs("Observation")["Observation?patient"]
    assert ("not stated", True) == (state, "leaves the type out" in means)
    assert 1 == done.counts()["Observation?patient"][0]


@pytest.mark.parametrize(
    ("silent", "how", "state"),
    [({"summary"}, "_total=accurate", "supported"), ({"summary", "accurate", "page"}, "read", "refused")],
)
def test_without_totals_the_next_way_of_counting_is_tried(
    silent: set[str], how: str, state: str, server: Any, check: Any
) -> None:
    """`_summary=count`, else `_total=accurate`, else the pages are read; a run then misses its counts."""
    for number in range(5):
        server.measure(f"o{number}", "a", {"text": "CT"})
    server.totals = lambda asked, number: None if asked in silent else number
    done = check("--sample", "2")
    assert (5, how) == done.counts()["Observation?patient"]
    assert state == done.needs("server")["totals"][0]


def test_a_count_that_is_not_true_is_told(server: Any, check: Any) -> None:
    """A server that counts more than it sends is found out, because a run would end with it."""
    server.measure("o1", "a", {"text": "CT"})
    server.totals = lambda asked, number: number + 3 if number else 0
    done = check()
    state, means = done.needs("Observation")["a count that is true"]
    assert ("refused", True) == (state, "22" in means)


def test_a_server_that_cannot_tell_what_changed(server: Any, check: Any) -> None:
    """`_lastUpdated` that is ignored makes every pull a full one; that ends no run."""
    server.ignored = {"_lastUpdated"}
    done = check()
    assert 0 == done.status
    assert "refused" == done.needs("server")["_lastUpdated"][0]


def test_a_search_that_is_refused_has_its_status(server: Any, check: Any, httpserver: Any) -> None:
    """403 for one type is the status that a run would end with, and the other types are still counted."""
    inner = server.search

    def search(request: Any, type_: str) -> Any:
        return inner(request, type_)

    def answer(request: Any) -> Response:
        if request.path == "/fhir/Observation":
            return Response("{}", 403)
        server.search = search
        return server(request)

    httpserver.clear()
    httpserver.expect_request(__import__("re").compile("/fhir/.*")).respond_with_handler(answer)
    done = check()
    assert 21 == done.status
    assert "refused" == done.needs("Observation")["Observation?patient"][0]
    assert 2 == done.counts()["Patient?_id"][0]


def test_a_study_that_the_server_does_not_know(server: Any, check: Any) -> None:
    """No ResearchStudy of that identifier: a run would end with 22, and check says so."""
    server.resources = [one for one in server.resources if one["resourceType"] != "ResearchStudy"]
    done = check()
    assert 22 == done.status
    assert "no ResearchStudy" in done.report["blocked"][0]["what"]


def test_no_server_is_the_error_of_a_run(check: Any, httpserver: Any) -> None:
    """Nothing at the base URL, or no FHIR: the same error and status as a run."""
    httpserver.expect_request("/fhir/metadata").respond_with_json({"resourceType": "Patient"})
    with pytest.raises(SourceNotFhir):
        check()
    httpserver.clear()
    httpserver.expect_request("/fhir/metadata").respond_with_data("{}", status=404)
    with pytest.raises(SourceRefused):
        check()


def test_r5_is_read_and_never_written(server: Any, check: Any) -> None:
    """Write-back is refused with its reason, and only --strict fails for it."""
    server.version = "5.0.0"
    server.resources = [in_release(resource, "R5") for resource in server.resources]
    done = check(write_back={"policy": "allowed"})
    assert 0 == done.status
    state, means = done.needs("write-back")["FHIR R4 or R4B"]
    assert "refused" == state
    assert "5.0.0" in means
    assert 3 == check("--strict", write_back={"policy": "allowed"}).status


def test_resources_of_another_release_than_the_server_says(server: Any, check: Any) -> None:
    """A server that says R5 and has what R4 had would give empty columns: check says that a run is refused."""
    server.version = "5.0.0"
    assert 11 == check().status


def test_write_back_on_r4_is_read_from_the_statement(server: Any, check: Any) -> None:
    """Transaction, and read, update and create by update of each output type."""
    needs = check(write_back={"policy": "allowed"}).needs("write-back")
    assert "supported" == needs["transaction"][0]
    assert "supported" == needs["Provenance: read, update"][0]
    assert "supported" == needs["create by update"][0]
    assert "not stated" == needs["conditional update"][0]
    assert "not asked" in check().needs("write-back")["a server that we may write to"][1]
