"""Six hand-written patients through the command line; every expected number stands in tests/data/six/README.md."""

from __future__ import annotations

import copy
import json
import stat
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from lifelines import KaplanMeierFitter

from .conftest import SIX, Adapter, results_of, six_patients, write_site, write_source

MONTH = 30.4375


@dataclass(frozen=True)
class Subject:
    """What the README says of one subject, enough to compute the study by hand."""

    best: str
    pfs: tuple[int, int]  # days, event
    os: tuple[int, int]
    related: dict[str, int] = field(default_factory=dict)  # term → worst grade
    sex: str = "F"
    grade: str = "1"


SUBJECTS = {
    "001": Subject("CR", (189, 0), (483, 0), {"Hypertension": 2, "Hypothyroidism": 1}),
    "002": Subject("PR", (189, 1), (379, 1), {"Palmar-plantar erythrodysesthesia syndrome": 3, "Fatigue": 2}),
    "003": Subject("SD", (189, 0), (434, 0), {"Proteinuria": 1}),
    "004": Subject("PD", (63, 1), (224, 1), {"Anemia": 3}),
    "005": Subject("NE", (75, 1), (75, 1), {"Fatigue": 1}),
}


def short_calculation(subjects: dict[str, Subject]) -> dict[str, Any]:
    """The study's main numbers from a table of subjects: an independent, short calculation."""
    people = list(subjects.values())
    n = len(people)
    count = {best: sum(one.best == best for one in people) for best in ("CR", "PR", "SD", "PD", "NE")}
    found: dict[str, Any] = {"flow.analysed.n": n, "response.total.n": n}
    for best, number in count.items():
        found[f"response.total.{best.lower()}.n"] = number
    found["response.total.orr.pct"] = 100 * (count["CR"] + count["PR"]) / n
    found["response.total.dcr.pct"] = 100 * (count["CR"] + count["PR"] + count["SD"]) / n
    for name, pairs in (("pfs", [one.pfs for one in people]), ("os", [one.os for one in people])):
        times, events = [days / MONTH for days, _ in pairs], [event for _, event in pairs]
        curve = KaplanMeierFitter().fit(times, events)
        found[f"survival.{name}.n"], found[f"survival.{name}.events"] = n, sum(events)
        for mark in (3, 6):
            rate = float(curve.predict(mark)) if mark <= max(times) else None
            found[f"survival.{name}.at.{mark}.rate"] = None if rate is None else 100 * rate
    terms = {term for one in people for term in one.related}
    for term in terms:
        slug = term.lower().replace("-", "_").replace(" ", "_")
        grades = [one.related[term] for one in people if term in one.related]
        found[f"toxicity.term.{slug}.any.n"] = len(grades)
        found[f"toxicity.term.{slug}.g3_4.n"] = sum(grade >= 3 for grade in grades)
    found["toxicity.related.n"] = sum(bool(one.related) for one in people)
    found["toxicity.any_ge3.n"] = sum(any(grade >= 3 for grade in one.related.values()) for one in people)
    return found


def same(expected: dict[str, Any], found: dict[str, Any]) -> None:
    """Every expected number is there and equal."""
    wrong = {
        id_: (value, found.get(id_))
        for id_, value in expected.items()
        if (found.get(id_) != value if value is None else found.get(id_) != pytest.approx(value, rel=1e-9))
    }
    assert {} == wrong


def test_the_numbers_are_those_of_the_readme(six_run: Path) -> None:
    """ORR 40 %, DCR 60 %, three progressions or deaths, and what follows from them."""
    found = results_of(six_run)
    same(short_calculation(SUBJECTS), found)
    same(
        {"response.total.orr.pct": 40.0, "response.total.dcr.pct": 60.0, "flow.excluded.one_cycle.n": 1},
        found,
    )
    assert (5.3, 85.3) == (
        round(found["response.total.orr.lower"], 1),
        round(found["response.total.orr.upper"], 1),
    )


def resource(resources: list[dict[str, Any]], id_: str) -> dict[str, Any]:
    return next(item for item in resources if item["id"] == id_)


def without(id_: str) -> Callable[[list[dict[str, Any]]], None]:
    return lambda items: items.remove(resource(items, id_))


def enlarge(id_: str, value: float) -> Callable[[list[dict[str, Any]]], None]:
    def edit(items: list[dict[str, Any]]) -> None:
        resource(items, id_)["component"][0]["valueQuantity"]["value"] = value

    return edit


def move_death(id_: str, date: str) -> Callable[[list[dict[str, Any]]], None]:
    return lambda items: resource(items, id_).update(deceasedDateTime=date)


def regrade(id_: str, code: str) -> Callable[[list[dict[str, Any]]], None]:
    def edit(items: list[dict[str, Any]]) -> None:
        for extension in resource(items, id_)["extension"]:
            if extension["url"].endswith("ae-grade"):
                extension["valueCodeableConcept"]["coding"][0]["code"] = code

    return edit


def unrelate(id_: str) -> Callable[[list[dict[str, Any]]], None]:
    def edit(items: list[dict[str, Any]]) -> None:
        text = json.dumps(resource(items, id_)).replace("C53258", "C53256")
        items[items.index(resource(items, id_))] = json.loads(text)

    return edit


def withdraw(items: list[dict[str, Any]]) -> None:
    items.append(
        {
            "resourceType": "Consent", "id": "six-pd-consent", "status": "inactive",
            "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "research"}]},
            "category": [{"coding": [{"system": "http://loinc.org", "code": "57016-8"}]}],
            "patient": {"reference": "Patient/six-pd"}, "dateTime": "2021-05-01",
            "policyRule": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTIN"}]},
            "provision": {"type": "permit"},
        }
    )  # fmt: skip


def changed(**edits: Any) -> dict[str, Subject]:
    """The subjects with some of them replaced (None: gone)."""
    table = SUBJECTS | {key.removeprefix("s"): value for key, value in edits.items()}
    return {key: value for key, value in table.items() if value is not None}


S = SUBJECTS
#: name → (edit of the raw resources, the subjects after it, families of results that may change)
MUTATIONS: dict[str, tuple[Callable[[list[dict[str, Any]]], None], dict[str, Subject], tuple[str, ...]]] = {
    "enlarge a lesion of the stable patient: progression at week 27": (
        enlarge("six-sd-week27-t01", 98), changed(s003=replace(S["003"], pfs=(189, 1))), ("survival.pfs",),
    ),
    "enlarge it at week 9: progression is the best response": (
        enlarge("six-sd-week9-t01", 100), changed(s003=replace(S["003"], best="PD", pfs=(63, 1))),
        ("survival.pfs", "response"),
    ),
    "shrink the progressing patient's lesion: the new lesion still is progression": (
        enlarge("six-pd-week9-t01", 20), changed(), (),
    ),
    "take the new lesion away: the size still is progression": (
        without("six-pd-week9-new01"), changed(), (),
    ),
    "drop the last scan's measurement of the responder: week 18 counts": (
        without("six-pr-week27-t01"), changed(s002=replace(S["002"], pfs=(379, 1))), ("survival.pfs", ),
    ),
    "move a death": (
        move_death("six-ne", "2021-09-14"), changed(s005=replace(S["005"], pfs=(105, 1), os=(105, 1))),
        ("survival",),
    ),
    "regrade an event": (
        regrade("six-ne-fatigue", "C41340"), changed(s005=replace(S["005"], related={"Fatigue": 3})), ("toxicity",),
    ),
    "an event turns out not to be related": (
        unrelate("six-pd-anaemia"), changed(s004=replace(S["004"], related={})), ("toxicity",),
    ),
    "withdraw consent": (
        withdraw, changed(s004=None),
        ("flow", "baseline", "response", "survival", "toxicity", "exposure", "models", "published", "disagreement"),
    ),
    "evaluate the lesion that was not evaluable: stable disease": (
        lambda items: resource(items, "six-ne-week9-t01")["component"].__setitem__(
            0, copy.deepcopy(resource(items, "six-ne-baseline-t01")["component"][0])
        ),
        changed(s005=replace(S["005"], best="SD")), ("response",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
def test_an_edit_of_the_raw_resources_changes_exactly_what_it_should(
    name: str, six_run: Path, tmp_path: Path, adapter: Adapter
) -> None:
    """The pipeline's numbers after an edit are those of the short calculation, and nothing else moves."""
    edit, expected, families = MUTATIONS[name]
    resources = six_patients()
    edit(resources)
    write_source(tmp_path / "source", resources)
    run = adapter(
        "run", SIX / "six.yaml", "--site", write_site(tmp_path), "--out", tmp_path, "--quiet", "--json"
    ).run
    before, after = results_of(six_run), results_of(run)
    same(short_calculation(expected), after)
    moved = {id_ for id_ in before.keys() | after.keys() if before.get(id_) != after.get(id_)}
    assert set() == {id_ for id_ in moved if not id_.startswith((*families, "disagreement"))}
    assert bool(families) == bool({id_ for id_ in moved if not id_.startswith("disagreement")})


def test_files_are_private_and_the_log_names_nobody(six_run: Path) -> None:
    """Folders 0700, files 0600; no name, birth date or identifier in the log or the manifest."""
    for path in [six_run, *six_run.rglob("*")]:
        assert (0o700 if path.is_dir() else 0o600) == stat.S_IMODE(path.stat().st_mode), path
    names = {part for item in six_patients() if item["resourceType"] == "Patient" for part in
             [item["birthDate"], item["id"], *(one["value"] for one in item.get("identifier", []))]}  # fmt: skip
    names |= {f"SIX-{number:03d}" for number in range(1, 7)}
    for name in ("run.log.jsonl", "manifest.json", "accounting.json"):
        text = (six_run / name).read_text("utf-8")
        assert [] == [word for word in names if word in text], name


def test_explain_goes_from_a_rate_to_the_resources(six_run: Path, adapter: Adapter) -> None:
    """From ORR to subjects, visits, rules, measurements, and the Observations."""
    said = adapter("explain", six_run, "response.total.orr.n").out
    assert "subjects: 2" in said
    for word in ("SIX-001", "SIX-002", "ADRS", "ADTR", "LDIAM", "Observation/six-cr-week9-t01", "tr_tumor"):
        assert word in said, word
    assert "SIX-003" not in said
    tree = json.loads(adapter("explain", six_run, "response.total.orr.n", "--json").out)
    assert ["SIX-001", "SIX-002"] == tree["subjects"]


def test_explain_of_an_unknown_result_is_a_usage_error(six_run: Path, adapter: Adapter) -> None:
    """Status 2, and the message names the id."""
    assert (
        "no result has the id 'response.nothing'"
        in adapter("explain", six_run, "response.nothing", status=2).err
    )


def test_each_stage_can_be_run_again_alone(six_run: Path, adapter: Adapter) -> None:
    """The same landing gives the same bytes, stage by stage."""
    names = ("results.json", "report.html", "accounting.json", "findings.json")
    before = {name: (six_run / name).read_bytes() for name in names}
    for stage in ("map", "derive", "analyse", "report"):
        adapter(stage, six_run, "--quiet")
    assert before == {name: (six_run / name).read_bytes() for name in names}


def test_a_second_run_gives_the_same_results(six_run: Path, tmp_path: Path, adapter: Adapter) -> None:
    """Another folder, another landing, resources in another order: the same results and report."""
    write_source(tmp_path / "source", reversed(six_patients()))
    run = adapter(
        "run", SIX / "six.yaml", "--site", write_site(tmp_path), "--out", tmp_path, "--quiet", "--json"
    ).run
    assert (six_run / "results.json").read_bytes() == (run / "results.json").read_bytes()


def test_a_dry_run_leaves_the_transaction_in_the_folder(
    six_run: Path, tmp_path: Path, adapter: Adapter
) -> None:
    """Nothing is sent; the transaction refers literally to no clinical source resource."""
    write_source(tmp_path / "source", six_patients())
    site = write_site(tmp_path)
    run = adapter(
        "run", SIX / "six.yaml", "--site", site, "--out", tmp_path, "--dry-run", "--quiet", "--json"
    ).run
    transaction = json.loads((run / "writeback.json").read_text("utf-8"))["transaction"]
    own = {f"{entry['resource']['resourceType']}/{entry['resource']['id']}" for entry in transaction["entry"]}
    kinds = sorted(key.partition("/")[0] for key in own)
    assert ["Binary", "Binary", "Binary", "Device", "DiagnosticReport", "DocumentReference", "DocumentReference",
            "Group", "Provenance"] == kinds  # fmt: skip

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            here = [value["reference"]] if isinstance(value.get("reference"), str) else []
            return here + [item for part in value.values() for item in references(part)]
        return [item for part in value for item in references(part)] if isinstance(value, list) else []

    assert {"ResearchStudy/six-study"} == set(references(transaction)) - own


def test_writing_back_needs_the_sites_permission(six_run: Path, adapter: Adapter) -> None:
    """Status 41 from policy, before anything is sent."""
    said = adapter("write-back", six_run, "--quiet", status=41).err
    assert "does not allow writing back" in said
