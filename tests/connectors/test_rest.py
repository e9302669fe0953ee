"""Pulling from a FHIR server that behaves: candidates, batches, shared resources, what is counted."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from fhir_adapter.connectors import plan_from_study
from fhir_adapter.errors import SiteFileError, SourceIncomplete, UsageError
from fhir_adapter.landing import Landing

SIX = Path(__file__).parents[1] / "data" / "six"


def test_study_is_pulled_by_subject_and_type(stub: Any, run: Any, landed: Any) -> None:
    """Subjects of the study land with all of their resources; others stay where they are."""
    stub.enrol("a", "b", "c")
    stub.put("Patient", "stranger")
    stub.observe("o-stranger", "stranger")
    report = run(subjects_per_query=2)
    assert landed() == [
        "Observation/o-a", "Observation/o-b", "Observation/o-c", "Patient/a", "Patient/b", "Patient/c",
        "ResearchStudy/s1", "ResearchSubject/rs-a", "ResearchSubject/rs-b", "ResearchSubject/rs-c",
    ]  # fmt: skip
    assert report.subjects == 3
    assert report.received == {"ResearchStudy": 1, "ResearchSubject": 3, "Patient": 3, "Observation": 3}
    assert {search["patient"] for search in stub.searches("Observation")} == {
        "Patient/a,Patient/b",
        "Patient/c",
    }


def test_bodies_land_as_they_came(stub: Any, run: Any, tmp_path: Path) -> None:
    """A resource is landed as the bytes that were sent, key order, spacing and number format included."""
    stub.enrol("a")
    odd = '{"id":"a",  "resourceType":"Patient","x":1.50,"name":[{"family":"\\u00e4"}]}'
    entry = f'{{"resource":\n{odd}\n}}'

    def answer(request: Any) -> Any:
        if request.path == "/fhir/Patient" and "_summary" not in request.args:
            return Response(
                f'{{"resourceType":"Bundle","total":1,"entry":[{entry}]}}',
                content_type="application/fhir+json",
            )
        return None

    stub.before = answer
    run()
    with Landing.open(tmp_path / "state" / "stub", read_only=True) as landing:
        patient = landing.get("Patient", "a")
    assert patient is not None
    assert patient.body.decode() == odd


def test_group_members_are_candidates(stub: Any, run: Any, landed: Any) -> None:
    """Members of a Group are candidates; an inactive member is none."""
    stub.enrol("a", "b")
    members = [
        {"entity": {"reference": "Patient/a"}},
        {"entity": {"reference": "Patient/b"}, "inactive": True},
    ]
    stub.put("Group", "g", identifier=[{"system": "urn:test", "value": "G"}], member=members)
    report = run(candidates={"group": {"system": "urn:test", "value": "G"}})
    assert report.subjects == 1
    assert [name for name in landed() if name.startswith("Patient")] == ["Patient/a"]


def test_members_who_leave_a_group(stub: Any, run: Any, landed: Any) -> None:
    """A member who is taken out, and one who is inactive now, are told; a record that is gone is marked so."""
    stub.enrol("a", "b", "c")
    identifier = [{"system": "urn:test", "value": "G"}]
    members = [{"entity": {"reference": f"Patient/{name}"}} for name in "abc"]
    stub.put("Group", "g", identifier=identifier, member=members)
    wanted = {"group": {"system": "urn:test", "value": "G"}}
    assert run(candidates=wanted).subjects == 3
    stub.put("Group", "g", identifier=identifier, member=[members[0], members[1] | {"inactive": True}])
    stub.delete("Patient", "c")
    report = run(candidates=wanted)
    assert [(finding.code, finding.number) for finding in report.findings] == [("no-longer-enrolled", 2)]
    assert [name for name in landed() if name.startswith("Patient")] == ["Patient/a", "Patient/b"]
    assert run(candidates=wanted).findings == []


def test_all_patients(stub: Any, run: Any) -> None:
    """With all_patients every Patient is a candidate."""
    stub.enrol("a", "b", "c")
    assert run(candidates={"all_patients": True}).subjects == 3


def test_candidates_by_condition(stub: Any, run: Any) -> None:
    """With codes the subjects of the Conditions found are candidates."""
    stub.enrol("a", "b")
    stub.put("Condition", "c", subject={"reference": "Patient/b"})
    report = run(candidates={"condition": {"codes": ["urn:icd|C48"]}})
    assert report.subjects == 1
    assert stub.searches("Condition")[0]["code"] == "urn:icd|C48"


def test_unknown_study_is_an_error(stub: Any, run: Any) -> None:
    """A study that the server does not have ends the pull; an empty report would look like a result."""
    with pytest.raises(SourceIncomplete, match="no ResearchStudy with the identifier"):
        run()


def test_shared_resources_are_pulled_by_reference(stub: Any, run: Any, landed: Any) -> None:
    """A Medication that an administration refers to lands; a dangling reference is a finding."""
    stub.enrol("a")
    for number, reference in enumerate(["Medication/m1", "Medication/m1/_history/3", "Medication/lost"]):
        stub.put("MedicationAdministration", f"ma{number}", subject={"reference": "Patient/a"},
                 medicationReference={"reference": reference})  # fmt: skip
    stub.put("Medication", "m1")
    stub.put("Medication", "unused")
    report = run()
    assert "Medication/m1" in landed()
    assert "Medication/unused" not in landed()
    assert [(finding.code, finding.number) for finding in report.findings] == [
        ("reference-without-resource", 1)
    ]


def test_own_output_is_counted_and_not_kept(stub: Any, run: Any, landed: Any, tmp_path: Path) -> None:
    """What carries the adapter's tag has a row in the landing, no body, and is counted at the wire."""
    stub.enrol("a")
    stub.observe("ours", "a", meta={"tag": [{"system": "https://fhir-adapter.org/tags", "code": "output"}]})
    report = run()
    assert report.own_output == {"Observation": 1}
    assert "Observation/ours" not in landed()
    with Landing.open(tmp_path / "state" / "stub", read_only=True) as landing:
        assert [(item.id, item.reason) for item in landing.left_out()] == [("ours", "own-output")]
        assert landing.counts()["Observation"]["own_output"] == 1


def test_second_pull_appends_nothing(stub: Any, run: Any) -> None:
    """Unchanged content appends nothing, neither in an incremental nor in a full pull."""
    stub.enrol("a", "b")
    first = run()
    assert (run().after, run(full=True).after) == (first.after, first.after)


def test_incremental_pull_asks_for_changes(stub: Any, run: Any, landed: Any) -> None:
    """A known subject is asked for changes since its mark less overlap, a new one for everything."""
    stub.enrol("a")
    run()
    stub.requests.clear()
    stub.enrol("b")
    stub.observe("o-b-old", "b")
    stub.resources["Observation", "o-b-old"]["meta"]["lastUpdated"] = "2019-01-01T00:00:00+00:00"
    run()
    assert {(search["patient"], search.get("_lastUpdated")) for search in stub.searches("Observation")} == {
        ("Patient/a", "ge2024-05-01T11:55:00.000Z"),
        ("Patient/b", None),
    }
    assert "Observation/o-b-old" in landed()


def test_deletion_is_found_by_an_incremental_pull(stub: Any, run: Any, landed: Any, tmp_path: Path) -> None:
    """The count tells that something is gone; what no read by id finds is marked deleted."""
    stub.enrol("a", "b")
    run()
    stub.delete("Observation", "o-a")
    report = run()
    assert report.outcome.deleted == 1
    assert "Observation/o-a" not in landed()
    with Landing.open(tmp_path / "state" / "stub", read_only=True) as landing:
        assert [(item.id, item.reason) for item in landing.left_out()] == [("o-a", "deleted")]


def test_deleted_enrolment_is_found(stub: Any, run: Any, landed: Any) -> None:
    """A ResearchSubject that was deleted is marked so, though its patient is no candidate any more."""
    stub.enrol("a", "b")
    run()
    stub.delete("ResearchSubject", "rs-a")
    assert run().subjects == 1
    assert "ResearchSubject/rs-a" not in landed()


def test_lost_by_search_but_there_is_not_deleted(stub: Any, run: Any, landed: Any) -> None:
    """What a search no longer finds but a read does stays, with a finding: no index decides on a deletion."""
    stub.enrol("a")
    stub.observe("hidden", "a")
    run()
    real = stub.matches

    def matches(resource: dict[str, Any], request: Any) -> bool:
        return resource["id"] != "hidden" and real(resource, request)

    stub.matches = matches
    report = run(full=True)
    assert "Observation/hidden" in landed()
    assert [finding.code for finding in report.findings] == ["not-found-by-search"]


def test_type_that_the_server_does_not_offer(stub: Any, run: Any) -> None:
    """A type missing from the CapabilityStatement is not asked for; that is a finding."""
    stub.enrol("a")
    stub.types = ["Patient", "ResearchStudy", "ResearchSubject", "Medication", "Observation"]
    report = run()
    assert stub.searches("MedicationAdministration") == []
    assert [(f.code, f.text) for f in report.findings] == [
        ("type-not-supported", "the server does not offer MedicationAdministration")
    ]


def test_landing_belongs_to_one_server(stub: Any, run: Any, make_site: Callable[..., Any]) -> None:
    """A landing is not filled from two servers: one id may be two patients."""
    stub.enrol("a")
    run()
    with pytest.raises(SiteFileError, match="was pulled from another source"):
        run(url=stub.base.replace("localhost", "127.0.0.1"))


def test_plan_refuses_what_cannot_be_pulled() -> None:
    """A type found neither by subject nor by reference is an error, before any request."""
    with pytest.raises(UsageError, match="SubscriptionStatus"):
        plan_from_study({"all_patients": True}, ["SubscriptionStatus"])


def test_plan_knows_every_way_to_candidates() -> None:
    """Exactly what the study model offers is understood; anything else is refused."""
    plan = plan_from_study(
        {"research_study": None, "condition": ["s|c"], "all_patients": False}, ["Observation"]
    )
    assert [search.codes for search in plan.candidates] == [("s|c",)]
    assert [query.type for query in plan.per_subject] == ["Patient", "Observation"]
    with pytest.raises(UsageError, match="guess"):
        plan_from_study({"guess": True}, [])
    with pytest.raises(UsageError, match="names no way"):
        plan_from_study({}, [])


def test_identifiers_with_separators_are_escaped() -> None:
    """A comma or bar in an identifier is part of it, not a separator of the search."""
    plan = plan_from_study({"group": {"system": "urn:x", "value": "a,b|c"}}, [])
    assert plan.candidates[0].identifier == r"urn:x|a\,b\|c"


def test_included_patients_are_no_candidates(stub: Any, run: Any) -> None:
    """Only the subjects of the Conditions found are candidates, not what a server sends along."""
    stub.enrol("a", "b")
    stub.put("Condition", "c", subject={"reference": "Patient/b"})

    def change(request: Request, bundle: dict[str, Any]) -> None:
        if request.path.endswith("/Condition"):
            bundle["entry"].append(
                {"resource": stub.resources["Patient", "a"], "search": {"mode": "include"}}
            )

    stub.change_bundle = change
    assert run(candidates={"condition": {"codes": ["urn:icd|C48"]}}).subjects == 1


def test_long_lists_of_subjects_are_cut_into_short_urls(stub: Any, run: Any) -> None:
    """No search is longer than what servers take, whatever subjects_per_query says."""
    names = [f"{number:060d}" for number in range(60)]
    stub.enrol(*names)
    report = run(subjects_per_query=60, page_size=100)
    assert report.received["Observation"] == 60
    assert max(len(request.url) for request in stub.requests) < 2000


@pytest.mark.parametrize("concurrency", [1, 3])
def test_requests_at_once(stub: Any, operator: Any, concurrency: int) -> None:
    """As many requests are under way as the site allows, and never more, pages that are fetched ahead included."""
    study = json.loads((SIX / "0-shared.json").read_bytes())["entry"]
    for resource in (entry["resource"] for entry in study):
        content = {k: v for k, v in resource.items() if k not in {"resourceType", "id", "meta"}}
        stub.put(resource["resourceType"], resource["id"], **content)
        if resource["resourceType"] == "ResearchStudy":
            name = resource["id"]
    for number in range(8):
        stub.put("Patient", f"p{number}")
        stub.put("ResearchSubject", f"rs{number}", study={"reference": f"ResearchStudy/{name}"},
                 individual={"reference": f"Patient/p{number}"})  # fmt: skip
        for serial in range(5):
            stub.observe(f"o{number}-{serial}", f"p{number}")
    together = threading.Condition()
    under_way: list[int] = [0]
    peak: list[int] = [0]

    def answer(request: Request) -> Response:
        with together:
            under_way[0] += 1
            peak[0] = max(peak[0], under_way[0])
            together.notify_all()
            # Room for one too many, which never comes: a moment, and until enough have met no more than that.
            together.wait_for(lambda: under_way[0] > concurrency, timeout=0.02)
        found: Response = stub(request)
        with together:
            under_way[0] -= 1
        return found

    with HTTPServer(host="localhost", threaded=True) as server:
        stub.base = server.url_for("/fhir")
        server.expect_request(re.compile(".*")).respond_with_handler(answer)
        settings = {"concurrency": concurrency, "page_size": 2, "subjects_per_query": 2}
        assert operator.pull(stub.base, **settings) == (0, "")
    assert peak == [concurrency]
    assert len([id_ for type_, id_ in operator.landed() if type_ == "Observation"]) == 40
