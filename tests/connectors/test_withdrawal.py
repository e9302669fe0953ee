"""A subject withdraws consent: what stays in datasets, landing and run folders, and what the next pull asks for."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from fhir_adapter.landing import Landing

DAY = dt.timedelta(days=1)
PURGE = {"on_withdrawal": "purge"}

Server = Any  # the classes stand in conftest.py, which is not importable by name
Operator = Any


def consent(server: Server, patient: str, status: str) -> None:
    """Writes a patient's consent to research."""
    server.now += DAY
    server.put(
        "Consent", f"{patient}-consent", status=status, dateTime="2021-05-01", provision={"type": "permit"},
        patient={"reference": f"Patient/{patient}"},
        scope={"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "research"}]},
    )  # fmt: skip


@pytest.fixture
def runs(operator: Operator, fresh: Path) -> Callable[[int], Operator]:
    """Further runs of the same operator, on the same landing."""

    def make(number: int) -> Operator:
        run = operator.folder / "runs" / "six" / str(number)
        shutil.copytree(fresh, run)
        return type(operator)(operator.folder, run, operator._call)

    return make


def rows(run: Path, usubjid: str) -> dict[str, int]:
    """Dataset → number of rows of a subject, those with none left out."""
    found = {
        path.stem: pq.ParquetFile(path).read().to_pandas()["USUBJID"].eq(usubjid).sum()
        for path in (run / "datasets").glob("*.parquet")
    }
    return {name: int(number) for name, number in found.items() if number}


def files_that_name(folder: Path, *words: str) -> list[str]:
    """Files below a folder in which one of some words stands."""
    return [
        path.name
        for path in folder.rglob("*")
        if path.is_file() and any(word.encode() in path.read_bytes() for word in words)
    ]


def test_nothing_but_the_withdrawal_is_kept_in_the_datasets(server: Server, operator: Operator) -> None:
    """By default the datasets keep who it was and that consent was withdrawn; every resource has its reason."""
    assert operator.pull(server.base) == (0, "")
    consent(server, "six-pd", "inactive")
    assert operator.pull(server.base) == (0, "")
    assert operator.map() == (0, "")
    assert rows(operator.run, "SIX-004") == {"dm": 1, "ds": 3}
    assert rows(operator.run, "SIX-005").keys() >= {"ex", "tr", "ae"}
    said = operator.dispositions()
    assert {said[name] for name in ("AdverseEvent/six-pd-anaemia", "Observation/six-pd-week9-t01")} == {
        "not-needed consent"
    }
    assert said["Consent/six-pd-consent"] == "used"
    assert said["Medication/six-anlotinib"] == "used"


def test_a_subject_who_withdrew_is_forgotten(
    server: Server, operator: Operator, runs: Callable[[int], Operator]
) -> None:
    """With `purge` no byte of them stays in landing and run folders, and no later pull asks for them."""
    assert operator.pull(server.base, **PURGE) == (0, "")
    assert operator.map() == (0, "")
    assert files_that_name(operator.folder, "six-pd", "SIX-004")
    consent(server, "six-pd", "inactive")
    second = runs(2)
    assert second.pull(server.base, **PURGE) == (0, "")
    assert second.map() == (0, "")
    assert files_that_name(operator.folder, "six-pd", "SIX-004") == []
    assert second.manifest["stages"]["map"]["purged"] == 1
    assert "withdrawn-purged" in {
        item["code"] for item in json.loads((second.run / "findings.json").read_bytes())
    }
    bars = operator.folder / "state" / "stub" / "barred.json"
    assert len(json.loads(bars.read_bytes())["subjects"]) == 1
    assert bars.stat().st_mode & 0o777 == 0o600
    third = runs(3)
    for full in ((), ("--full",)):
        server.requests.clear()
        assert third.pull(server.base, *full, **PURGE) == (0, "")
        asked = [str(value) for request in server.requests for value in request.args.values()]
        assert [value for value in asked if "six-pd" in value] == []
        assert third.manifest["pull"]["barred"] == {"ResearchSubject": 1}  # found with the study's others
        assert third.manifest["pull"]["subjects"] == 5
    assert files_that_name(operator.folder, "six-pd", "SIX-004") == []
    assert third.map() == (0, "")
    assert len(pq.ParquetFile(third.run / "datasets" / "dm.parquet").read()) == 5


def test_results_that_stand_on_a_server_are_named(
    server: Server, operator: Operator, runs: Callable[[int], Operator]
) -> None:
    """A purged run that was written back keeps the identities of its outputs, and the next run says that they stand."""
    assert operator.pull(server.base, **PURGE) == (0, "")
    assert operator.map() == (0, "")
    written = {"mode": "yes", "actions": {"Binary/fa-1": "create"}, "readBack": {"Binary/fa-1": "1"}}
    place = operator.run / "writeback.json"
    place.write_text(json.dumps(written | {"transaction": {"about": "Patient/six-pd"}}), encoding="utf-8")
    consent(server, "six-pd", "rejected")
    second = runs(2)
    assert second.pull(server.base, **PURGE) == (0, "")
    assert second.map() == (0, "")
    found = {item["code"]: item["detail"] for item in json.loads((second.run / "findings.json").read_bytes())
             if "withdrawn" in item["code"]}  # fmt: skip
    assert found == {"withdrawn-purged": "1", "withdrawn-results-stand": "1"}
    assert json.loads(place.read_bytes()) == written
    assert files_that_name(operator.folder, "six-pd", "SIX-004") == []


def test_another_record_of_someone_who_withdrew(
    server: Server, operator: Operator, runs: Callable[[int], Operator]
) -> None:
    """A new record that replaces a barred one is the same person: it is purged and barred as well."""
    consent(server, "six-pd", "inactive")
    assert operator.pull(server.base, **PURGE) == (0, "")
    assert operator.map() == (0, "")
    server.now += DAY
    subject = server.resources["ResearchSubject", "six-pd-subject"]
    server.put("Patient", "again", link=[{"other": {"reference": "Patient/six-pd"}, "type": "replaces"}])
    server.put("ResearchSubject", "again-subject", study=subject["study"], identifier=subject["identifier"],
               status="on-study", individual={"reference": "Patient/again"})  # fmt: skip
    server.observe("again-observation", "again", status="final")
    second = runs(2)
    assert second.pull(server.base, **PURGE) == (0, "")
    assert second.map() == (0, "")
    assert files_that_name(operator.folder, "six-pd", "Patient/again", "again-observation") == []
    assert len(pq.ParquetFile(second.run / "datasets" / "dm.parquet").read()) == 5


def test_a_subject_is_admitted_again(
    server: Server, operator: Operator, runs: Callable[[int], Operator], tmp_path: Path
) -> None:
    """Who consents again is taken off the list by hand, and comes back whole."""
    consent(server, "six-pd", "inactive")
    assert operator.pull(server.base, **PURGE) == (0, "")
    assert operator.map() == (0, "")
    consent(server, "six-pd", "active")
    ids, site = tmp_path / "ids", operator.run / "site.yaml"
    ids.write_text("six-pd\nsix-cr\n", encoding="utf-8")
    assert operator._call("purge", "--site", site, "--readmit", ids) == (0, "")
    assert operator._call("purge", "--site", site, "--readmit", ids, "--all")[0] == 2
    second = runs(2)
    assert second.pull(server.base, **PURGE) == (0, "")
    assert second.landed() == set(server.resources)


def test_purge_by_hand_may_bar(
    server: Server, operator: Operator, runs: Callable[[int], Operator], tmp_path: Path
) -> None:
    """`purge --bar` keeps a subject out; the bar outlives a purge of everything; a damaged list stops the pull."""
    assert operator.pull(server.base) == (0, "")
    ids, site = tmp_path / "ids", operator.run / "site.yaml"
    ids.write_text("six-pd\n", encoding="utf-8")
    out = operator.folder / "runs"
    assert operator._call("purge", "--site", site, "--out", out, "--subjects", ids, "--bar") == (0, "")
    assert operator._call("purge", "--site", site, "--all") == (0, "")
    assert operator.pull(server.base) == (0, "")
    assert ("Patient", "six-cr") in operator.landed()
    assert not [id_ for _, id_ in operator.landed() if id_.startswith("six-pd")]
    bars = operator.folder / "state" / "stub" / "barred.json"
    bars.write_text("{}", encoding="utf-8")
    status, said = operator.pull(server.base)
    assert status != 0
    assert "list of barred subjects cannot be read" in said


def test_files_bring_no_barred_subject(server: Server, operator: Operator, tmp_path: Path) -> None:
    """What a drop folder holds of a barred subject does not land either, and is counted; unreadable items too."""
    source = tmp_path / "source"
    source.mkdir()
    lines = [json.dumps(item) for item in server.resources.values()]
    odd = '{"resourceType": "Observation", "subject": {"reference": "Patient/six-pd"}}'
    (source / "all.ndjson").write_text("\n".join([*lines, odd]) + "\n", encoding="utf-8")
    files = {"source": {"kind": "files", "path": str(source)}}
    assert operator.pull(server.base, **files) == (0, "")
    ids, site = tmp_path / "ids", operator.run / "site.yaml"
    ids.write_text("six-pd\n", encoding="utf-8")
    assert operator._call("purge", "--site", site, "--out", tmp_path, "--subjects", ids, "--bar") == (0, "")
    assert operator.pull(server.base, "--full", **files) == (0, "")
    barred = operator.manifest["pull"]["barred"]
    theirs = [item for item in server.resources.values() if "Patient/six-pd" in json.dumps(item)]
    assert sum(barred.values()) == len(theirs) + 2  # Patient, and what cannot be read
    with Landing.open(operator.folder / "state" / "stub", read_only=True) as landing:
        assert "Patient/six-pd" not in landing.subject_keys()
        assert list(landing.unreadable()) == []
