"""What real FHIR servers do, through the command line: what the operator sees, the exit status, what landed.

`QUIRKS` says by number which test shows the answer to each known quirk of real servers.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import re
import time
import types
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from fhir_adapter.datasets import read_dataset
from fhir_adapter.landing import Landing
from fhir_adapter.pipeline import Settings, new_run

TESTS = Path(__file__).parents[1]
SIX = TESTS / "data" / "six"
HERE = "connectors/test_quirks.py"

#: Quirk → the tests that show the answer to it.
QUIRKS: dict[int, tuple[str, ...]] = {
    1: (f"{HERE}::test_next_link_stops_at_a_cap",),
    2: (f"{HERE}::test_count_is_capped",),
    3: (f"{HERE}::test_page_is_cut_short_and_the_next_skips", f"{HERE}::test_what_is_referred_to_is_counted_too"),
    4: (f"{HERE}::test_cursor_expires", f"{HERE}::test_cursor_expires_always"),
    5: (f"{HERE}::test_next_links_are_followed_as_given",),
    6: (f"{HERE}::test_empty_page_before_the_last", f"{HERE}::test_next_link_never_answers",
        "connectors/test_wire.py::test_a_page_that_has_no_end"),
    7: (f"{HERE}::test_next_link_names_the_server_otherwise",
        "connectors/auth/test_tls_and_proxies.py::test_next_link_says_http",
        "connectors/test_paging.py::test_links_that_are_followed"),
    8: (f"{HERE}::test_next_link_is_relative",),
    9: (f"{HERE}::test_long_next_link_is_not_found",),
    10: (f"{HERE}::test_pages_without_end",),
    11: (f"{HERE}::test_duplicates_across_pages", f"{HERE}::test_duplicates_in_the_place_of_others"),
    12: (f"{HERE}::test_results_are_not_reused",),
    13: (f"{HERE}::test_no_total", f"{HERE}::test_total_counts_other_tenants"),
    14: (f"{HERE}::test_parameter_is_ignored", f"{HERE}::test_parameter_is_ignored_without_a_word"),
    15: (f"{HERE}::test_outcomes_and_includes_among_matches",),
    16: (f"{HERE}::test_last_updated_is_not_supported", f"{HERE}::test_marks_have_milliseconds"),
    17: (f"{HERE}::test_long_searches_go_by_post", f"{HERE}::test_post_search_is_not_found",
         f"{HERE}::test_a_code_search_finds_text"),
    18: ("connectors/auth/test_smart_backend.py::test_renewal_that_is_refused_now_and_then",),
    19: (f"{HERE}::test_medications_contained_orphaned_and_elsewhere",),
    20: (f"{HERE}::test_shapes_of_references", "connectors/test_files.py::test_urn_references_within_a_bundle"),
    21: (f"{HERE}::test_dates_land_as_written",
         "derive/recist/test_contract.py::test_dates_are_calendar_days_as_written"),
    22: (f"{HERE}::test_entered_in_error_does_not_count",
         "mapping/test_subjects.py::test_a_preliminary_observation_counts_where_the_study_says_so"),
    23: (f"{HERE}::test_deletion_is_noticed",),
    24: (f"{HERE}::test_merged_patients_are_one",
         "connectors/test_incremental.py::test_a_subject_who_is_enrolled_no_longer"),
    25: (f"{HERE}::test_null_extension_url_costs_nothing",),
    26: ("writeback/test_submit.py::test_an_entry_that_is_dropped_silently_is_a_conflict",
         "writeback/test_submit.py::test_what_comes_back_different_is_a_conflict"),
    27: ("connectors/test_bulk.py::test_many_files_and_impatient_polling",),
    28: (f"{HERE}::test_failed_page_leaves_no_mark",),
    29: (f"{HERE}::test_token_stays_at_home",),
}  # fmt: skip


Operator = Any  # the class stands in conftest.py, which is not importable by name


def searched(request: Request, type_: str = "Observation") -> bool:
    """Whether a request is a search for a type, counts left out."""
    return request.path.endswith(f"/{type_}") and "_summary" not in request.args


def content(resource: dict[str, Any]) -> dict[str, Any]:
    """What a resource says, to be written again under another id."""
    return {name: value for name, value in resource.items() if name not in {"resourceType", "id", "meta"}}


def next_link(bundle: dict[str, Any]) -> dict[str, str] | None:
    """The next link of a Bundle."""
    return next((item for item in bundle["link"] if item["relation"] == "next"), None)


def test_every_quirk_has_a_test() -> None:
    """The table names, for each quirk of the list, tests that exist."""
    assert sorted(QUIRKS) == list(range(1, 30))
    for place in itertools.chain.from_iterable(QUIRKS.values()):
        file, _, name = place.partition("::")
        assert re.search(rf"^def {name}\(", (TESTS / file).read_text("utf-8"), re.MULTILINE), place


def test_next_link_stops_at_a_cap(server: Any, operator: Operator) -> None:
    """A server whose next link stops early is caught by its own count; the manifest says what is missing."""

    def cap(request: Request, bundle: dict[str, Any]) -> None:
        if searched(request) and int(request.args.get("start", 0)) >= 20:
            bundle["link"] = bundle["link"][:1]

    server.change_bundle = cap
    status, said = operator.pull(server.base, page_size=20)
    assert (status, "the server counts 63 Observation, 40 came" in said) == (22, True)
    report = operator.manifest["failed_pull"]
    assert (report["complete"], report["missing"]["Observation"]) == (False, 6)
    assert report["received"]["Observation"] == 40
    assert "Condition" not in report["missing"]
    server.change_bundle = lambda request, bundle: None
    assert operator.pull(server.base, page_size=20) == (0, "")
    assert operator.landed() == set(server.resources)
    assert "failed_pull" not in operator.manifest


def test_count_is_capped(server: Any, operator: Operator) -> None:
    """Pages smaller than asked for are pages: all of them are read."""
    search = server.search

    def capped(request: Request, type_: str) -> Response:
        if "_count" in request.args:
            request.args = type(request.args)({**request.args.to_dict(), "_count": "7"})
        answer: Response = search(request, type_)
        return answer

    server.search = capped
    assert operator.pull(server.base) == (0, "")
    assert operator.landed() == set(server.resources)


def test_what_is_referred_to_is_counted_too(server: Any, operator: Operator) -> None:
    """A Medication that a page leaves out is no orphan: the count tells, and a second search may bring it."""
    left = [1]

    def cut(request: Request, bundle: dict[str, Any]) -> None:
        if searched(request, "Medication") and bundle["entry"] and left[0]:
            left[0] -= 1
            del bundle["entry"][-1]

    server.change_bundle = cut
    assert operator.pull(server.base) == (0, "")
    assert operator.landed() == set(server.resources)
    left[0] = 100
    status, said = operator.pull(server.base, "--full")
    assert (status, "the server counts 1 Medication, 0 came" in said) == (22, True)
    missing = operator.manifest["failed_pull"]["missing"]
    assert ("Medication" in missing, "Observation" in missing) == (True, False)
    assert operator.landed() == set(server.resources)


def test_page_is_cut_short_and_the_next_skips(server: Any, operator: Operator) -> None:
    """Records that are on no page are missed by the count."""

    def cut(request: Request, bundle: dict[str, Any]) -> None:
        if searched(request) and "start" not in request.args:
            del bundle["entry"][-3:]

    server.change_bundle = cut
    status, said = operator.pull(server.base, page_size=20)
    assert (status, "the server counts 63 Observation, 60 came" in said) == (22, True)
    assert operator.manifest["failed_pull"]["missing"]["Observation"] == 6
    assert len([type_ for type_, _ in operator.landed() if type_ == "Observation"]) == 60


def test_cursor_expires(server: Any, operator: Operator) -> None:
    """After a 410 in the middle the search begins again; everything lands, and a finding tells of it."""
    left = [1]

    def expire(request: Request) -> Response | None:
        if searched(request) and "start" in request.args and left[0]:
            left[0] -= 1
            return Response("{}", 410)
        return None

    server.before = expire
    assert operator.pull(server.base, page_size=20) == (0, "")
    assert operator.landed() == set(server.resources)
    assert "cursor-expired" in operator.findings


def test_cursor_expires_always(server: Any, operator: Operator) -> None:
    """A cursor that never lives long enough ends the pull as incomplete."""
    server.before = lambda request: (
        Response("{}", 410) if searched(request) and "start" in request.args else None
    )
    status, said = operator.pull(server.base, page_size=20)
    assert (status, "the paging cursor expired 2 times" in said) == (22, True)


def test_next_links_are_followed_as_given(server: Any, operator: Operator) -> None:
    """A next link is opaque: a server that only knows its own links gets them back to the letter."""
    cursors: dict[str, str] = {}

    def opaque(request: Request, bundle: dict[str, Any]) -> None:
        link = next_link(bundle)
        if link is not None:
            name = f"c{len(cursors)}"
            path, _, cursors[name] = link["url"].partition("?")
            link["url"] = f"{path}?_getpages={name}&_bundletype=searchset"

    def resolve(request: Request) -> Response | None:
        assert "_getpagesoffset" not in request.args
        if "_getpages" not in request.args:
            return None
        request.args = type(request.args)(parse_qsl(cursors[request.args["_getpages"]]))
        answer: Response = server.search(request, request.path.rpartition("/")[2])
        return answer

    server.change_bundle, server.before = opaque, resolve
    assert operator.pull(server.base, page_size=20) == (0, "")
    assert operator.landed() == set(server.resources)


def test_empty_page_before_the_last(server: Any, operator: Operator) -> None:
    """An empty page with a next link is not the end."""

    def empty(request: Request, bundle: dict[str, Any]) -> None:
        if searched(request) and request.args.get("start") == "20" and "again" not in request.args:
            bundle["entry"] = []
            bundle["link"][1:] = [{"relation": "next", "url": f"{request.url}&again=1"}]

    server.change_bundle = empty
    assert operator.pull(server.base, page_size=20) == (0, "")
    assert operator.landed() == set(server.resources)


def test_next_link_never_answers(server: Any, operator: Operator) -> None:
    """A page that times out at the gateway is asked for again in smaller ones; at the smallest the pull ends."""
    server.before = lambda request: (
        Response("", 504) if searched(request) and int(request.args["_count"]) > 10 else None
    )
    assert operator.pull(server.base, page_size=80) == (0, "")
    assert operator.landed() == set(server.resources)
    assert "page-too-large" in operator.findings
    server.before = lambda request: Response("", 504) if searched(request) else None
    status, said = operator.pull(server.base, "--full", page_size=80)
    assert (status, "the server goes on answering 504" in said) == (20, True)


@pytest.mark.parametrize(
    ("status", "size"),
    [(413, 100), (500, 100), (502, 100), (200, 100)],
    ids=["413", "500", "502", "too long"],
)
def test_pages_too_large_for_the_server(server: Any, operator: Operator, status: int, size: int) -> None:
    """413, 5xx and pages over `max_page_bytes` bring smaller pages, not an end."""

    def refuse(request: Request) -> Response | None:
        if searched(request) and int(request.args["_count"]) > 25:
            return Response(" " * 300_000 if status == 200 else "", status)
        return None

    server.before = refuse
    assert operator.pull(server.base, page_size=size, max_page_bytes=200_000) == (0, "")
    assert operator.landed() == set(server.resources)
    assert "page-too-large" in operator.findings


@pytest.mark.parametrize("name", ["http://fhir.internal:8080", "repeated port"])
def test_next_link_names_the_server_otherwise(server: Any, operator: Operator, name: str) -> None:
    """An inner name that the site file lists, and a port that is repeated page by page, lead home."""
    home = server.base.removesuffix("/fhir")

    def rename(request: Request, bundle: dict[str, Any]) -> None:
        link = next_link(bundle)
        if link is not None:
            port = home.rpartition(":")[2]
            other = f"{home}:{port}:{port}" if name == "repeated port" else name
            link["url"] = link["url"].replace(home, other)

    server.change_bundle = rename
    aliases = [] if name == "repeated port" else [name]
    assert operator.pull(server.base, page_size=20, aliases=aliases) == (0, "")
    assert operator.landed() == set(server.resources)


def test_next_link_is_relative(server: Any, operator: Operator) -> None:
    """A relative next link is resolved against the page that it stands in."""

    def relative(request: Request, bundle: dict[str, Any]) -> None:
        link = next_link(bundle)
        if link is not None:
            link["url"] = link["url"].removeprefix(f"{server.base}/")

    server.change_bundle = relative
    assert operator.pull(server.base, page_size=20) == (0, "")
    assert operator.landed() == set(server.resources)


@pytest.mark.parametrize("status", [404, 414])
def test_long_next_link_is_not_found(server: Any, operator: Operator, status: int) -> None:
    """A next link that the server itself no longer takes is avoided by narrower searches, which a finding tells."""

    def long(request: Request, bundle: dict[str, Any]) -> None:
        link = next_link(bundle)
        if link is not None and searched(request):
            link["url"] += "&ct=" + "x" * 2048

    server.change_bundle = long
    server.before = lambda request: Response("{}", status) if len(request.url) > 2048 else None
    assert operator.pull(server.base, page_size=20) == (0, "")
    assert operator.landed() == set(server.resources)
    assert operator.findings == {"next-link-too-long"}
    ended, said = operator.pull(server.base, "--full", page_size=10)  # more than that has a single patient
    assert (ended, f"the server answers {status} to its own next link" in said) == (22, True)
    assert "Raise `page_size`" in said
    assert 1 <= operator.manifest["failed_pull"]["missing"]["Observation"] <= 6


def test_pages_without_end(server: Any, operator: Operator) -> None:
    """A server that always has a next page is left after a few that bring nothing."""
    number = itertools.count()

    def endless(request: Request, bundle: dict[str, Any]) -> None:
        if searched(request):
            bundle["link"][1:] = [
                {"relation": "next", "url": f"{server.base}/Observation?_count=5&patient=x&n={next(number)}"}
            ]

    server.change_bundle = endless
    status, said = operator.pull(server.base)
    assert (status, "pages in a row brought nothing new" in said) == (22, True)
    assert next(number) < 20


def test_duplicates_across_pages(server: Any, operator: Operator) -> None:
    """Entries that come again on the same page and on the next one land once and are counted once."""
    before: list[Any] = []

    def repeat(request: Request, bundle: dict[str, Any]) -> None:
        if searched(request) and bundle["entry"]:
            fresh = list(bundle["entry"])
            bundle["entry"] += [fresh[0], *before]
            before[:] = fresh

    server.change_bundle = repeat
    assert operator.pull(server.base, page_size=20) == (0, "")
    assert operator.landed() == set(server.resources)
    assert operator.manifest["pull"]["received"]["Observation"] == 63


def test_duplicates_in_the_place_of_others(server: Any, operator: Operator) -> None:
    """A tied sort repeats an entry and leaves another out: the number of entries hides it."""
    before: list[Any] = []

    def shift(request: Request, bundle: dict[str, Any]) -> None:
        if searched(request) and bundle["entry"]:
            last = bundle["entry"][-1]
            if "start" in request.args:
                bundle["entry"][0] = before[0]
            before[:] = [last]

    server.change_bundle = shift
    status, said = operator.pull(server.base, page_size=40)
    assert (status, "the server counts 63 Observation, 62 came" in said) == (22, True)
    server.change_bundle = lambda request, bundle: None
    assert operator.pull(server.base, page_size=40) == (0, "")
    assert operator.landed() == set(server.resources)


def test_results_are_not_reused(server: Any, operator: Operator) -> None:
    """Every request asks the server not to answer from its memory."""
    assert operator.pull(server.base) == (0, "")
    assert {request.headers.get("Cache-Control") for request in server.requests} == {"no-cache"}


@pytest.mark.parametrize("stated", ["nowhere", "in pages", "in counts", "null"])
def test_no_total(server: Any, operator: Operator, stated: str) -> None:
    """A total counts wherever it stands; where none says how many there are, that is a finding and no error."""
    search = server.search

    def answer(request: Request, type_: str) -> Response:
        found: Response = search(request, type_)
        body = found.get_json(force=True)
        counted = "_summary" in request.args
        if stated == "null":
            body["total"] = None
        elif stated == "nowhere" or counted == (stated == "in pages"):
            del body["total"]
        found.set_data(json.dumps(body))
        return found

    server.search = answer
    assert operator.pull(server.base) == (0, "")
    assert operator.landed() == set(server.resources)
    assert operator.findings == ({"no-count"} if stated in {"nowhere", "null"} else set())


def test_total_counts_other_tenants(server: Any, operator: Operator) -> None:
    """A count that is always too high ends the pull, unless the site file makes it a finding."""
    server.counts = lambda type_, number: number + 5 if type_ == "Observation" else number
    status, said = operator.pull(server.base)
    assert (status, "the server counts 68 Observation, 63 came" in said) == (22, True)
    assert operator.pull(server.base, on_difference="finding") == (0, "")
    assert operator.findings == {"count-differs"}
    assert operator.landed() == set(server.resources)


def test_parameter_is_ignored(server: Any, operator: Operator) -> None:
    """A self link without our criterion ends the pull before a foreign patient's data land."""

    def ignore(request: Request, bundle: dict[str, Any]) -> None:
        if searched(request):
            bundle["link"][0]["url"] = f"{server.base}/Observation?_count=100"

    server.change_bundle = ignore
    status, said = operator.pull(server.base)
    assert (status, "the server ignores the search parameter patient" in said) == (22, True)
    assert not [type_ for type_, _ in operator.landed() if type_ == "Observation"]


@pytest.mark.parametrize("answer", ["no self link", "the parameters repeated"])
def test_parameter_is_ignored_without_a_word(server: Any, operator: Operator, answer: str) -> None:
    """What comes of somebody who was not asked for ends the pull before it lands, whatever the self link says."""
    server.put("Patient", "stranger")
    server.observe("of-the-stranger", "stranger", status="final")
    matches = server.matches
    server.matches = lambda resource, request: (
        resource["resourceType"] == "Observation" or matches(resource, request)
    )

    def change(request: Request, bundle: dict[str, Any]) -> None:
        if searched(request) and answer == "no self link":
            bundle["link"] = bundle["link"][1:]

    server.change_bundle = change
    status, said = operator.pull(server.base, page_size=20)
    assert (status, "the server sends Observation of patients who were not asked for" in said) == (22, True)
    assert ("Observation", "of-the-stranger") not in operator.landed()
    assert operator.manifest["failed_pull"]["missing"]["Observation"] == 6


def test_outcomes_and_includes_among_matches(server: Any, operator: Operator) -> None:
    """An OperationOutcome is a note and no match, an included resource lands, a match without mode is one."""

    def mix(request: Request, bundle: dict[str, Any]) -> None:
        if searched(request):
            for entry in bundle["entry"]:
                del entry["search"]
            issue = {"severity": "warning", "code": "informational", "diagnostics": "about ZQCANARY-4711"}
            bundle["entry"] += [
                {"resource": {"resourceType": "OperationOutcome", "issue": [issue]}},
                {"resource": {"resourceType": "Device", "id": "d"}, "search": {"mode": "include"}},
            ]

    server.change_bundle = mix
    assert operator.pull(server.base) == (0, "")
    assert operator.landed() == {*server.resources, ("Device", "d")}
    assert operator.findings == {"server-note"}


@pytest.mark.parametrize("answer", [400, 422, 501, "ignored"])
def test_last_updated_is_not_supported(server: Any, operator: Operator, answer: Any) -> None:
    """A server that cannot tell what changed is asked for everything again, or sends it anyway."""
    assert operator.pull(server.base) == (0, "")
    server.now += dt.timedelta(days=1)
    server.observe("new", "six-pd", status="final")

    def forget(request: Request) -> Response | None:
        if "_lastUpdated" not in request.args:
            return None
        if answer != "ignored":
            return Response("{}", answer)
        request.args = type(request.args)({k: v for k, v in request.args.items() if k != "_lastUpdated"})
        return None

    def silent(request: Request, bundle: dict[str, Any]) -> None:
        bundle["link"][0]["url"] = f"{request.base_url}?{urlencode(request.args)}"

    server.before, server.change_bundle = forget, silent
    assert operator.pull(server.base) == (0, "")
    assert operator.manifest["pull"]["received"]["Observation"] == 64
    assert operator.landed() == set(server.resources)


def test_marks_have_milliseconds(server: Any, operator: Operator) -> None:
    """`_lastUpdated` is sent with `ge` and milliseconds, because whole seconds lose a second at the edge."""
    assert operator.pull(server.base) == (0, "")
    assert operator.pull(server.base) == (0, "")
    marks = {request.args["_lastUpdated"] for request in server.requests if "_lastUpdated" in request.args}
    assert marks
    assert all(re.fullmatch(r"ge\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", mark) for mark in marks)


def many_patients(server: Any) -> None:
    """Writes 120 more patients into the study: a search for all of them is longer than 1,900 characters."""
    study = next(id_ for type_, id_ in server.resources if type_ == "ResearchStudy")
    for number in range(120):
        name = f"more-patients-of-the-study-{number}"
        server.put("Patient", name)
        server.put("ResearchSubject", f"rs-{name}", study={"reference": f"ResearchStudy/{study}"},
                   individual={"reference": f"Patient/{name}"})  # fmt: skip
        server.observe(f"o-{name}", name)


def test_long_searches_go_by_post(server: Any, operator: Operator) -> None:
    """A search that is too long for GET is posted as a form; its next pages come by their links."""
    many_patients(server)
    posted: list[str] = []

    def post(request: Request) -> Response | None:
        if not request.path.endswith("/_search"):
            assert len(request.url) < 1900 or "start" in request.args
            return None
        assert (request.method, request.mimetype) == ("POST", "application/x-www-form-urlencoded")
        type_ = request.path.split("/")[-2]
        posted.append(type_)
        request.args = request.form  # type: ignore[assignment]
        answer: Response = server.search(request, type_)
        return answer

    server.before = post
    assert operator.pull(server.base, subjects_per_query=500) == (0, "")
    assert operator.landed() == set(server.resources)
    assert "Observation" in posted


def test_post_search_is_not_found(server: Any, operator: Operator) -> None:
    """Where `POST _search` gives 404 the search is cut into short ones; a finding tells of it."""
    many_patients(server)
    server.before = lambda request: Response("{}", 404) if request.method == "POST" else None
    assert operator.pull(server.base, subjects_per_query=500) == (0, "")
    assert operator.landed() == set(server.resources)
    assert "post-search-not-supported" in operator.findings
    assert max(len(request.url) for request in server.requests if request.method == "GET") < 2048


def test_a_code_search_finds_text(
    server: Any, operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Condition that a search by code finds by its words alone makes nobody a subject: the mapping looks again."""
    study = (SIX / "six.yaml").read_text("utf-8")
    line = "research_study: {system: https://fhir-adapter.org/six/study, value: SIX}"
    assert line in study
    (tmp_path / "six.yaml").write_text(
        study.replace(line, 'condition: ["http://hl7.org/fhir/sid/icd-10|C48.0"]'), "utf-8"
    )
    run = new_run(
        tmp_path / "six.yaml", operator.run / "site.yaml", tmp_path / "by-code", Settings(quiet=True)
    )
    run.log.close()
    other = type(operator)(tmp_path, run.folder.path, operator._call)
    server.put("Patient", "by-words")
    server.put("Condition", "by-words", subject={"reference": "Patient/by-words"},
               code={"coding": [{"system": "urn:local", "code": "1"}], "text": "C48.0"})  # fmt: skip
    assert other.pull(server.base) == (0, "")
    assert other.manifest["pull"]["subjects"] == 7
    assert other.map()[0] == 0
    assert other.dispositions()["Condition/by-words"] == "not-needed not-a-candidate"
    assert len(read_dataset(other.run / "datasets", "DM")) == 6


def test_medications_contained_orphaned_and_elsewhere(server: Any, operator: Operator) -> None:
    """A contained Medication lands within its resource, an orphan is a finding, another server is not asked."""
    for name, reference in {
        "c": "#m",
        "o": "Medication/none",
        "e": "https://other.example/fhir/Medication/x",
    }.items():
        server.put(
            "MedicationAdministration", name, status="completed", subject={"reference": "Patient/six-pd"},
            effectiveDateTime="2021-06-01", medicationReference={"reference": reference},
            contained=[{"resourceType": "Medication", "id": "m", "code": {"text": "Camrelizumab"}}],
        )  # fmt: skip
    assert operator.pull(server.base) == (0, "")
    assert operator.landed() == set(server.resources)
    assert operator.findings == {"reference-without-resource"}
    assert operator.map()[0] == 0
    assert {"MedicationAdministration/c", "MedicationAdministration/o", "MedicationAdministration/e"} <= set(
        operator.dispositions()
    )


def test_shapes_of_references(server: Any, operator: Operator) -> None:
    """Versioned, absolute and logical references to a patient lead to the same patient."""
    matches = server.matches
    shapes = {
        "versioned": {"reference": "Patient/six-pd/_history/1"},
        "absolute": {"reference": f"{server.base}/Patient/six-pd"},
        "logical": {"identifier": {"system": "urn:mrn", "value": "1"}},
    }
    patient = content(server.resources["Patient", "six-pd"])
    server.put("Patient", "six-pd", **patient, identifier=[{"system": "urn:mrn", "value": "1"}])
    for name, reference in {**shapes, "plain": {"reference": "Patient/six-pd"}}.items():
        server.put("Observation", name, status="final", subject=reference, code={"text": "other"})
    server.matches = lambda resource, request: (
        "Patient/six-pd" in request.args.get("patient", "")
        if resource["id"] in shapes
        else matches(resource, request)
    )
    assert operator.pull(server.base) == (0, "")
    assert operator.landed() == set(server.resources)
    assert operator.map()[0] == 0
    outcomes = operator.dispositions()
    plain = outcomes["Observation/plain"]
    assert "candidate" not in plain
    assert {name: outcomes[f"Observation/{name}"] for name in shapes} == dict.fromkeys(shapes, plain)


def test_dates_land_as_written(server: Any, operator: Operator) -> None:
    """A partial date and a time with an offset come through landing and dataset as sent, neither padded nor shifted."""
    dates = {
        "year": "2021",
        "month": "2021-06",
        "late": "2021-06-15T23:30:00-05:00",
        "early": "2021-06-17T00:30:00+09:00",
    }
    sent = server.resources["Observation", "six-pd-ecog"]
    for name, date in dates.items():
        server.put("Observation", name, **content(sent) | {"effectiveDateTime": date})
    assert operator.pull(server.base) == (0, "")
    with Landing.open(operator.folder / "state" / "stub", read_only=True) as landing:
        for name, date in dates.items():
            found = landing.get("Observation", name)
            assert found is not None
            assert json.loads(found.body)["effectiveDateTime"] == date
    assert operator.map()[0] == 0
    table = read_dataset(operator.run / "datasets", "SC")
    dated = set(table[table["USUBJID"] == "SIX-004"]["SCDTC"])
    assert dated == {"2020-11-01", "2021-05-10", *dates.values()}  # of the diagnosis, of the first ECOG


@pytest.mark.parametrize(
    ("like", "status", "reason"),
    [
        (("MedicationAdministration", "six-pd-anlotinib-1"), "entered-in-error", "entered-in-error"),
        (("Observation", "six-pd-haemoglobin"), "entered-in-error", "entered-in-error"),
        (("Observation", "six-pd-haemoglobin"), "cancelled", "status"),
        (("Observation", "six-pd-haemoglobin"), "preliminary", "status"),
        (("Observation", "six-pd-haemoglobin"), "registered", "status"),
    ],
)
def test_entered_in_error_does_not_count(
    server: Any, operator: Operator, like: tuple[str, str], status: str, reason: str
) -> None:
    """What was entered in error, cancelled or is preliminary lands, and the mapping leaves it out with its reason."""
    server.put(like[0], "wrong", **content(server.resources[like]) | {"status": status})
    assert operator.pull(server.base) == (0, "")
    assert (like[0], "wrong") in operator.landed()
    assert operator.map()[0] == 0
    assert operator.dispositions()[f"{like[0]}/wrong"] == f"not-needed {reason}"


def test_deletion_is_noticed(server: Any, operator: Operator) -> None:
    """A deletion that no search by time shows is noticed by the count, and read by id before it is believed."""
    assert operator.pull(server.base) == (0, "")
    victim = next(key for key in server.resources if key[0] == "Observation")
    server.delete(*victim)
    assert operator.pull(server.base) == (0, "")
    assert victim not in operator.landed()
    assert operator.manifest["pull"]["outcome"]["deleted"] == 1


def test_merged_patients_are_one(server: Any, operator: Operator) -> None:
    """A patient who was merged into another is not a subject of their own."""
    study = next(id_ for type_, id_ in server.resources if type_ == "ResearchStudy")
    server.put("Patient", "old", active=False,
               link=[{"other": {"reference": "Patient/six-pd"}, "type": "replaced-by"}])  # fmt: skip
    server.put("ResearchSubject", "rs-old", study={"reference": f"ResearchStudy/{study}"}, status="on-study",
               individual={"reference": "Patient/old"})  # fmt: skip
    assert operator.pull(server.base) == (0, "")
    status, said = operator.map()
    assert status == 0, said
    assert len(read_dataset(operator.run / "datasets", "DM")) == 6


def test_null_extension_url_costs_nothing(server: Any, operator: Operator) -> None:
    """An extension whose url is null costs at most its own resource; the other ones are mapped."""
    server.observe("odd", "six-pd", status="final", extension=[{"url": None, "valueString": "x"}])
    assert operator.pull(server.base) == (0, "")
    assert operator.landed() == set(server.resources)
    assert operator.map()[0] == 0
    assert len(operator.dispositions()) == len(server.resources)


def test_failed_page_leaves_no_mark(server: Any, operator: Operator) -> None:
    """A page that fails ends the pull with an error; the type is not done, and the next pull brings all of it."""
    server.before = lambda request: (
        Response("", 503) if searched(request) and request.args.get("start") == "40" else None
    )
    status, said = operator.pull(server.base, page_size=20)
    assert (status, "the server goes on answering 503" in said) == (20, True)
    report = operator.manifest["failed_pull"]
    assert (report["received"]["Observation"], report["missing"]["Observation"]) == (40, 6)
    assert operator.manifest["exit"]["status"] == 20
    server.before = lambda request: None
    assert operator.pull(server.base, page_size=20) == (0, "")
    assert operator.landed() == set(server.resources)


def test_token_stays_at_home(server: Any, operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A next link to another host is refused; where the site allows the host it is asked without the token."""
    monkeypatch.setenv("STUB_TOKEN", "zqcanary-token")
    elsewhere = HTTPServer(host="localhost", port=0)
    elsewhere.start()
    seen: list[Request] = []

    def other(request: Request) -> Response:
        seen.append(request)
        answer: Response = server.search(request, "Observation")
        return answer

    elsewhere.expect_request(re.compile(".*")).respond_with_handler(other)

    def lead_away(request: Request, bundle: dict[str, Any]) -> None:
        link = next_link(bundle)
        if link is not None and searched(request):
            link["url"] = link["url"].replace(server.base, elsewhere.url_for("/fhir"))

    server.change_bundle = lead_away
    auth = {"kind": "bearer", "token_env": "STUB_TOKEN"}
    try:
        status, said = operator.pull(server.base, page_size=20, auth=auth)
        assert (status, "a link leads to another host" in said) == (21, True)
        assert not seen
        allowed = [f"localhost:{elsewhere.port}"]
        assert operator.pull(server.base, page_size=20, auth=auth, allowed_hosts=allowed) == (0, "")
    finally:
        elsewhere.stop()
    assert operator.landed() == set(server.resources)
    assert seen
    assert not [request for request in seen if "Authorization" in request.headers]


@pytest.mark.parametrize(
    ("value", "waits"),
    [
        ("0", []),
        ("3", [3]),
        ("3600", [7]),
        ("Wed, 21 Oct 2125 07:28:00 GMT", [7]),
        ("Wed, 21 Oct 2015 07:28:00 GMT", []),
        ("soon", []),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after(
    server: Any, operator: Operator, monkeypatch: pytest.MonkeyPatch, status: int, value: str, waits: list[float]
) -> None:  # fmt: skip
    """Retry-After in seconds or as a date is heeded up to `retry.max_wait_s`, and the pull goes on."""
    left = [1]

    def busy(request: Request) -> Response | None:
        if searched(request) and left[0]:
            left[0] -= 1
            return Response("", status, {"Retry-After": value})
        return None

    slept: list[float] = []
    clock = types.SimpleNamespace(time=time.time, monotonic=time.monotonic, sleep=slept.append)
    monkeypatch.setattr("urllib3.util.retry.time", clock)
    server.before = busy
    assert operator.pull(server.base, retry={"attempts": 2, "max_wait_s": 7, "timeout_s": 5}) == (0, "")
    assert slept == waits
    assert operator.landed() == set(server.resources)


def test_repeated_requests_wait_their_turn(
    server: Any, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every request but the first waits for its turn, those that are repeated after a 503 among them."""
    left = [1]

    def busy(request: Request) -> Response | None:
        if searched(request) and left[0]:
            left[0] -= 1
            return Response("", 503, {"Retry-After": "0"})
        return None

    slept: list[float] = []
    clock = types.SimpleNamespace(monotonic=lambda: 0.0, sleep=slept.append)
    monkeypatch.setattr("fhir_adapter.connectors.http.bounds.time", clock)
    server.before = busy
    assert operator.pull(server.base, requests_per_second=0.5) == (0, "")
    assert left == [0]
    assert sorted(slept) == [2.0 * number for number in range(1, len(server.requests))]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_resources": 100}, "max_resources"),
        ({"max_pull_bytes": 50_000}, "max_pull_bytes"),
        ({"max_pull_s": 1e-6}, "max_pull_s"),
    ],
    ids=["resources", "bytes", "seconds"],
)
def test_limits_of_a_pull(server: Any, operator: Operator, settings: dict[str, Any], words: str) -> None:
    """A pull that goes over a limit of the site ends, what landed stays, and a pull without it completes it."""
    status, said = operator.pull(server.base, page_size=20, **settings)
    assert (status, words in said) == (22, True)
    assert operator.manifest["failed_pull"]["complete"] is False
    assert operator.pull(server.base, page_size=20, requests_per_second=1000) == (0, "")
    assert operator.landed() == set(server.resources)
