"""`fhir-adapter check` on real HAPI FHIR servers of R4 and R5, and the write-back that R5 does not get."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import SIX, Adapter, six_patients, write_site

pytestmark = pytest.mark.hapi

Hapi = Any  # the class stands in tests/conftest.py, which is not importable by name
STUDY = {"system": "https://fhir-adapter.org/six/study", "value": "SIX"}
SUBJECT = "https://fhir-adapter.org/six/subject"


def on_server(resources: list[dict[str, Any]], prefix: str) -> list[dict[str, Any]]:
    """The same resources under ids and study of their own: other tests share the server and delete."""
    text = json.dumps(resources).replace("six-", prefix).replace('"SIX"', f'"{prefix.upper()}"')
    found: list[dict[str, Any]] = json.loads(text)
    return found


def r5_patients() -> list[dict[str, Any]]:
    """Two patients in the shapes of R5: enrolled, a tumour size each, a dose, an event."""
    study = {"resourceType": "ResearchStudy", "id": "r5-study", "status": "active", "identifier": [STUDY]}
    resources: list[dict[str, Any]] = [study]
    for name in ("r5-a", "r5-b"):
        about = {"reference": f"Patient/{name}"}
        local = {"coding": [{"system": "urn:hospital:modality", "code": "XCT", "display": "Spiral scan"}]}
        size = {
            "code": {"coding": [{"system": "http://loinc.org", "code": "33728-7"}]},
            "valueQuantity": {"value": 20, "system": "http://unitsofmeasure.org", "code": "mm"},
        }
        resources += [
            {"resourceType": "Patient", "id": name, "gender": "female", "birthDate": "1960"},
            {"resourceType": "ResearchSubject", "id": f"rs-{name}", "status": "active", "subject": about,
             "study": {"reference": "ResearchStudy/r5-study"},
             "identifier": [{"system": SUBJECT, "value": name}]},
            {"resourceType": "Observation", "id": f"size-{name}", "status": "final", "subject": about,
             "code": {"coding": [{"system": "http://loinc.org", "code": "21889-1"}]}, "component": [size],
             "effectiveDateTime": "2020-01-01", "method": local},
            {"resourceType": "MedicationAdministration", "id": f"dose-{name}", "status": "completed",
             "subject": about, "occurenceDateTime": "2020-01-01",
             "medication": {"concept": {"text": "anlotinib"}}},
            {"resourceType": "AdverseEvent", "id": f"event-{name}", "status": "completed",
             "actuality": "actual", "subject": about, "code": {"text": "Rash"}},
        ]  # fmt: skip
    return resources


def test_check_counts_what_an_r4_server_has(hapi: Hapi, tmp_path: Path, adapter: Adapter) -> None:
    """Every query brings what was loaded, the write-back could work, and nothing is written by asking."""
    resources = on_server(six_patients(), "chk-")
    hapi.load(resources)
    study = tmp_path / "study.yaml"
    study.write_text((SIX / "six.yaml").read_text("utf-8").replace("value: SIX", "value: CHK-"), "utf-8")
    site = write_site(tmp_path, source={"kind": "rest", "url": hapi.base}, write_back={"policy": "allowed"})
    before = hapi.get("_history?_summary=count")["total"]
    done = json.loads(adapter("check", study, "--site", site, "--json").out)
    assert before == hapi.get("_history?_summary=count")["total"]
    assert [] == done["blocked"]
    assert 6 == done["subjects"]
    counts = {one["type"]: one["number"] for one in done["counts"]}
    for type_ in ("AdverseEvent", "Encounter", "MedicationAdministration", "Observation", "Patient"):
        assert counts[type_] == sum(one["resourceType"] == type_ for one in resources)
    states = {(one["subject"], one["need"]): one["state"] for one in done["needs"]}
    assert "supported" == states["server", "_lastUpdated"]
    assert "supported" == states["server", "totals"]
    assert "supported" == states["AdverseEvent", "AdverseEvent?subject"]
    assert "supported" == states["write-back", "transaction"]
    assert {"supported"} == {states[key] for key in states if "read, update" in key[1]}
    assert "not stated" == states["write-back", "create by update"]  # HAPI does it all the same
    assert {"imaging"} == {one["code"] for one in done["unknown"]}


def test_check_and_write_back_on_r5(hapi_r5: Hapi, tmp_path: Path, adapter: Adapter) -> None:
    """An R5 server is counted and its codes are read; write-back is refused by check and by itself."""
    hapi_r5.load(r5_patients())
    site = write_site(
        tmp_path, source={"kind": "rest", "url": hapi_r5.base}, write_back={"policy": "allowed"}
    )
    done = json.loads(adapter("check", SIX / "six.yaml", "--site", site, "--json").out)
    assert [] == done["blocked"]
    assert done["server"]["fhir_version"].startswith("5.")
    assert 2 == done["subjects"]
    counts = {one["type"]: one["number"] for one in done["counts"]}
    assert (2, 2, 2) == (counts["Observation"], counts["MedicationAdministration"], counts["AdverseEvent"])
    assert ("XCT", 2) in {(one["code"], one["count"]) for one in done["unknown"]}
    refused = [one for one in done["needs"] if one["subject"] == "write-back"]
    assert [("FHIR R4 or R4B", "refused")] == [(one["need"], one["state"]) for one in refused]

    before = hapi_r5.get("_history?_summary=count")["total"]
    ended = adapter(
        "run", SIX / "six.yaml", "--site", site, "--out", tmp_path, "--write-back", "--quiet", status=41
    )
    assert "write-back-refused" in ended.err
    assert before == hapi_r5.get("_history?_summary=count")["total"]
