"""How deletions are found between full pulls: by counts, by all ids now and then, by history, or not at all."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from werkzeug import Request, Response

from fhir_adapter.landing import Landing

DAY = dt.timedelta(days=1)
LONG_AGO = dt.datetime(2019, 1, 1, tzinfo=dt.UTC)


def swap(stub: Any) -> None:
    """One Observation is deleted, and another turns up that is older than any mark: the counts agree."""
    stub.delete("Observation", "o-a")
    now, stub.now = stub.now, LONG_AGO
    stub.observe("o-swapped", "a")
    stub.now = now


def lists(stub: Any, type_: str = "Observation") -> int:
    """How many searches for ids alone were made since the requests were last cleared."""
    return sum("_elements" in search for search in stub.searches(type_))


@pytest.fixture
def pulled(stub: Any, run: Any) -> Any:
    """The server after a first pull of two patients; the requests are cleared."""
    stub.enrol("a", "b")
    stub.now += DAY
    run()
    stub.requests.clear()
    return stub


def test_swap_is_noticed_by_the_ids(pulled: Any, run: Any, landed: Any) -> None:
    """Counts that agree hide it until the ids are compared, which is due after `compare_every_days`."""
    swap(pulled)
    pulled.now += DAY
    run()
    assert (lists(pulled), "Observation/o-a" in landed()) == (0, True)
    pulled.now += 6 * DAY
    report = run()
    assert lists(pulled) == 1
    assert {"Observation/o-swapped", "Observation/o-b"} <= set(landed())
    assert "Observation/o-a" not in landed()
    assert report.outcome.deleted == 1
    # Only what differs is pulled in full, and the next comparison is a week away.
    assert pulled.searches("Patient")[-1].keys() >= {"_elements"}
    pulled.requests.clear()
    pulled.now += DAY
    run()
    assert lists(pulled) == 0


def test_ids_in_every_pull(pulled: Any, run: Any, landed: Any) -> None:
    """With `compare_every_days: 0` a swap is noticed at once."""
    swap(pulled)
    run(deletes={"compare_every_days": 0})
    assert "Observation/o-a" not in landed()
    assert "Observation/o-swapped" in landed()


def test_change_that_came_late_is_noticed_by_its_version(pulled: Any, run: Any, tmp_path: Any) -> None:
    """A change that is dated before the mark (indexed late, a clock that is behind) has another version in the list."""
    now, pulled.now = pulled.now, pulled.now - DAY
    pulled.observe("o-a", "a", status="amended")
    pulled.now = now
    for days, version in ((7, "1"), (0, "2")):
        run(deletes={"compare_every_days": days})
        with Landing.open(tmp_path / "state" / "stub", read_only=True) as landing:
            found = landing.get("Observation", "o-a")
        assert found is not None
        assert found.version == version


def test_nothing_of_a_list_lands(pulled: Any, run: Any, tmp_path: Any) -> None:
    """What a server sends when it is asked for ids alone is cut short, and never lands."""
    before = run().after
    assert run(deletes={"compare_every_days": 0}).after == before
    assert lists(pulled) == 1


def test_server_that_lists_no_ids(pulled: Any, run: Any, landed: Any) -> None:
    """Where `_elements` is an error everything is asked for instead."""
    swap(pulled)
    pulled.before = lambda request: Response("{}", 400) if "_elements" in request.args else None
    run(deletes={"compare_every_days": 0})
    assert "Observation/o-a" not in landed()


def test_history_tells_of_deletions(pulled: Any, run: Any, landed: Any) -> None:
    """A deletion is read from the history of the type: nothing is pulled in full, and others' stay unread."""
    pulled.put("Patient", "stranger")
    pulled.observe("of-the-stranger", "stranger")
    pulled.delete("Observation", "of-the-stranger")
    pulled.delete("Observation", "o-a")
    pulled.requests.clear()
    report = run(deletes={"find": "history"})
    assert "Observation/o-a" not in landed()
    assert report.outcome.deleted == 1
    assert report.findings == []
    assert all("_lastUpdated" in search for search in pulled.searches("Observation"))
    reads = [request.path for request in pulled.requests if request.path.startswith("/fhir/Observation/")]
    assert reads.count("/fhir/Observation/o-a") == 1
    assert set(reads) == {"/fhir/Observation/_history", "/fhir/Observation/o-a"}
    since = {request.args["_since"] for request in pulled.requests if "_since" in request.args}
    assert since == {"2024-05-02T11:55:00.000Z"}


def test_deleted_and_written_again(pulled: Any, run: Any, landed: Any) -> None:
    """What the history deletes and a later entry brings back is there."""
    pulled.delete("Observation", "o-a")
    pulled.observe("o-a", "a", status="final")
    report = run(deletes={"find": "history"})
    assert "Observation/o-a" in landed()
    assert (report.outcome.deleted, report.findings) == (0, [])


@pytest.mark.parametrize("status", [400, 403, 404, 501])
def test_server_without_history(pulled: Any, run: Any, landed: Any, status: int) -> None:
    """A finding says so, and the counts find the deletion."""
    pulled.delete("Observation", "o-a")
    pulled.before = lambda request: Response("{}", status) if request.path.endswith("_history") else None
    report = run(deletes={"find": "history"})
    assert "Observation/o-a" not in landed()
    assert {finding.code for finding in report.findings} == {"history-not-supported"}


def test_history_without_end(pulled: Any, run: Any, landed: Any) -> None:
    """A history that always has a next page is left, and counts as none."""
    pulled.delete("Observation", "o-a")
    real = pulled.type_history

    def endless(request: Request, type_: str) -> Response:
        answer: Response = real(request, type_)
        number = int(request.args.get("n", 0)) + 1
        body = answer.get_json(force=True)
        body["entry"] = []
        url = f"{pulled.base}/{type_}/_history?_since={request.args['_since']}&_count=2&n={number}"
        body["link"] = [{"relation": "next", "url": url}]
        answer.set_data(json.dumps(body))
        return answer

    pulled.type_history = endless
    report = run(deletes={"find": "history"})
    assert "Observation/o-a" not in landed()
    assert {finding.code for finding in report.findings} == {"history-not-supported"}
    assert len(pulled.requests) < 120


def test_deletions_are_not_looked_for(pulled: Any, run: Any, landed: Any) -> None:
    """With `off` fewer on the server than known is a finding; a full pull finds the deletion."""
    pulled.delete("Observation", "o-a")
    pulled.now += 30 * DAY
    report = run(deletes={"find": "off"})
    assert "Observation/o-a" in landed()
    assert [finding.code for finding in report.findings] == ["fewer-than-known"]
    assert run(full=True, deletes={"find": "off"}).outcome.deleted == 1
    assert "Observation/o-a" not in landed()


def test_more_than_known_is_pulled_even_so(pulled: Any, run: Any, landed: Any) -> None:
    """With `off` a change that slipped through is still found by the count."""
    now, pulled.now = pulled.now, LONG_AGO
    pulled.observe("o-late", "a")
    pulled.now = now
    run(deletes={"find": "off"})
    assert "Observation/o-late" in landed()


def test_moved_to_a_patient_outside_of_the_study(pulled: Any, run: Any, landed: Any) -> None:
    """What now belongs to somebody else leaves the landing's current state, and what it says now does not land."""
    pulled.now += DAY
    pulled.observe("o-a", "stranger", status="final")
    report = run()
    assert "Observation/o-a" not in landed()
    assert {finding.code for finding in report.findings} == {"moved-away"}


def test_moved_within_the_study(pulled: Any, run: Any, landed: Any, tmp_path: Any) -> None:
    """Whatever batch is asked first, it is there once, of its new patient, and nothing is odd about it."""
    pulled.now += DAY
    pulled.observe("o-a", "b", status="final")
    report = run(subjects_per_query=1, concurrency=1)
    assert report.findings == []
    with Landing.open(tmp_path / "state" / "stub", read_only=True) as landing:
        found = landing.get("Observation", "o-a")
    assert found is not None
    assert found.subject == "Patient/b"


def test_what_a_search_by_id_misses_is_read(stub: Any, run: Any, landed: Any) -> None:
    """A Medication that is referred to and that no search finds lands all the same."""
    stub.enrol("a")
    stub.put("Medication", "hidden")
    stub.put("MedicationAdministration", "ma", subject={"reference": "Patient/a"},
             medicationReference={"reference": "Medication/hidden"})  # fmt: skip
    real = stub.matches
    stub.matches = lambda resource, request: resource["id"] != "hidden" and real(resource, request)
    report = run()
    assert "Medication/hidden" in landed()
    assert [finding.code for finding in report.findings] == ["not-found-by-search"]


def test_other_record_of_a_candidate_is_pulled(pulled: Any, run: Any, landed: Any) -> None:
    """A record that was merged with a candidate's comes with all that is its own; `seealso` merges nothing."""
    for name, type_ in (("old", "replaces"), ("other", "seealso")):
        now, pulled.now = pulled.now, LONG_AGO
        pulled.put("Patient", name)
        pulled.observe(f"o-{name}", name)
        pulled.now = now + DAY
        links = [{"other": {"reference": f"Patient/{name}"}, "type": type_}]
        pulled.put("Patient", "a" if name == "old" else "b", link=links)
    assert run().subjects == 3
    assert {"Patient/old", "Observation/o-old"} <= set(landed())
    assert not {"Patient/other", "Observation/o-other"} & set(landed())
    assert run().subjects == 3
