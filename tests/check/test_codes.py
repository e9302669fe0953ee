"""`fhir-adapter check`: codes that no map knows, the draft of a ConceptMap, code filters, files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.conceptmap import ConceptMap as ConceptMapModel

from fhir_adapter.errors import UsageError
from fhir_adapter.mapping.terminology import Terminology, load_concept_map

LOCAL = "urn:hospital:modality"


def coded(code: str, display: str | None = None, system: str | None = LOCAL) -> dict[str, Any]:
    coding = {"system": system, "code": code, "display": display}
    return {"coding": [{key: value for key, value in coding.items() if value is not None}]}


def test_unknown_codes_are_counted_with_their_element(server: Any, check: Any) -> None:
    """Element, map, system, code, display and the number of resources; whether a run reports it."""
    for number in range(3):
        server.measure(f"o{number}", "a", coded("XCT", "Spiral scan"))
    server.measure("o-known", "b", {"text": "CT"})
    done = check()
    assert 0 == done.status
    (row,) = done.report["unknown"]
    assert row == {
        "element": "Observation.method",
        "concept_map": "method",
        "variable": "TRMETHOD",
        "system": LOCAL,
        "code": "XCT",
        "display": "Spiral scan",
        "count": 3,
        "reported": True,
    }
    assert done.report["complete"] is True
    assert 3 == check("--strict").status


def test_a_sample_is_called_a_sample(server: Any, check: Any) -> None:
    """With --sample the census is bounded and says so; --all reads everything."""
    for number in range(5):
        server.measure(f"o{number}", "a", coded(f"X{number}"))
    done = check("--sample", "2")
    assert (False, 2, 2) == (
        done.report["complete"],
        done.report["read"]["Observation"],
        len(done.report["unknown"]),
    )
    assert "of a sample: the first 2 resources" in check("--sample", "2", as_json=False).out
    assert 5 == len(check("--all").report["unknown"])


def test_free_text_is_counted_and_not_shown(server: Any, check: Any, tmp_path: Path) -> None:
    """A wording without a code may name a person: a number by default, its words only when asked for."""
    draft = tmp_path / "draft.json"
    server.measure("o1", "a", {"text": "as Mrs Meier said"})
    done = check("--draft", str(draft))
    assert [] == done.report["unknown"]
    (text,) = done.report["text_only"]
    assert ("Observation.method", 1, True) == (text["element"], text["count"], text["reported"])
    assert "Meier" not in done.out + check(as_json=False).out + draft.read_text("utf-8")
    assert "as Mrs Meier said" in check("--show-text").out


def test_what_a_server_calls_its_codes_is_bounded_and_escaped(server: Any, check: Any) -> None:
    """Control characters and reading marks are written out, and nothing is longer than it may be."""
    server.measure("o1", "a", coded("X", "\x1b[2J\u202eevil" + "y" * 5000))
    said = check(as_json=False).out
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert "\\u001b[2J\\u202eevil" in said
    assert "y" * 101 not in said
    assert len(check().report["unknown"][0]["display"]) < 120


def test_a_draft_is_a_concept_map_that_works_once_filled_in(server: Any, check: Any, tmp_path: Path) -> None:
    """Valid R4, one group per system and map; empty elements are unknown still, filled ones translate."""
    server.measure("o1", "a", coded("XCT", "Spiral scan"))
    server.measure("o2", "b", coded("33728-7", "Not a method", "http://loinc.org"))
    server.measure("o3", "b", coded("no system", None, None))
    draft = tmp_path / "draft.json"
    check("--draft", str(draft))
    written = json.loads(draft.read_text("utf-8"))
    assert 0o600 == draft.stat().st_mode & 0o777
    ConceptMapModel.model_validate(written)
    assert "draft" == written["status"]
    assert {("http://loinc.org", "33728-7"), (LOCAL, "XCT")} == {
        (group["source"], element["code"]) for group in written["group"] for element in group["element"]
    }
    assert {"https://fhir-adapter.org/CodeSystem/method"} == {group["target"] for group in written["group"]}
    assert load_concept_map("method", draft).by_code(LOCAL, "XCT") is None
    for group in written["group"]:
        for element in group["element"]:
            element["target"] = [{"code": "CT SCAN", "equivalence": "equivalent"}]
    draft.write_text(json.dumps(written), encoding="utf-8")
    ConceptMapModel.model_validate(written)
    found = load_concept_map("method", draft).by_code(LOCAL, "XCT")
    assert found is not None
    assert "CT SCAN" == found.target
    assert load_concept_map("drug", draft).by_code(LOCAL, "XCT") is None
    assert Terminology().translate("method", [(LOCAL, "XCT", None)]) is None


def test_a_draft_has_a_place_to_go_to(check: Any, server: Any, tmp_path: Path) -> None:
    """A folder that is not there is said before anything is asked."""
    with pytest.raises(UsageError):
        check("--draft", str(tmp_path / "nowhere" / "draft.json"))
    assert [] == server.requests


def test_codes_that_no_view_selects_are_listed(server: Any, check: Any) -> None:
    """A tumour size under a local code is pulled and not seen by any view."""
    server.measure("o1", "a", {"text": "CT"}, code="99999-9")
    (row,) = check().report["unselected"]
    assert ("Observation.code", "http://loinc.org", "99999-9", 1) == (
        row["element"],
        row["system"],
        row["code"],
        row["count"],
    )


def test_what_a_code_filter_would_lose(server: Any, check: Any) -> None:
    """Doses of the study drug that are coded as text are used by the study and not found by code."""
    when = {"status": "completed", "effectiveDateTime": "2020-01-01"}
    atc = {"coding": [{"system": "http://www.whocc.no/atc", "code": "L01CX01"}]}
    for id_, drug in (("m1", atc), ("m2", {"text": "trabectedin"}), ("m3", {"text": "trabectedin"})):
        subject = {"reference": "Patient/a"}
        server.put("MedicationAdministration", id_, medicationCodeableConcept=drug, subject=subject, **when)
    found = {one["type"]: one for one in check().report["filters"]}["MedicationAdministration"]
    assert (3, 1) == (found["without"], found["filtered"])
    assert (3, 2, 1) == (found["needed"], found["lost"], found["subjects"])


def test_files_are_checked_without_a_server(check: Any, server: Any, tmp_path: Path) -> None:
    """Counts and census come from the files; a type that they lack is told."""
    server.measure("o1", "a", coded("XCT"))
    folder = tmp_path / "source"
    folder.mkdir()
    text = "\n".join(json.dumps(one) for one in server.resources)
    (folder / "all.ndjson").write_text(text + "\nnot json\n", encoding="utf-8")
    done = check(source={"kind": "files", "path": str(folder)})
    assert 0 == done.status
    assert [] == server.requests
    assert 2 == done.report["subjects"]
    assert (1, "files") == done.counts()["Observation"]
    assert ["XCT"] == [row["code"] for row in done.report["unknown"]]
    assert "not stated" == done.needs("AdverseEvent")["resources of the type"][0]
    assert "1 cannot" in done.needs("files")["resources that can be read"][1]
    sampled = check("--sample", "1", source={"kind": "files", "path": str(folder)})
    assert (2, "files") == sampled.counts()["Patient"]
    assert 1 == sampled.report["read"]["Patient"]


def test_a_manifest_beside_files_is_no_data(check: Any, server: Any, tmp_path: Path) -> None:
    """It is read as what it is; the error files that it names are left aside."""
    folder = tmp_path / "drop"
    folder.mkdir()
    lines = "".join(json.dumps(resource) + "\n" for resource in server.resources)
    (folder / "all.ndjson").write_text(lines, encoding="utf-8")
    (folder / "errors.ndjson").write_text('{"resourceType":"OperationOutcome"}\n', encoding="utf-8")
    manifest = {"output": [{"url": "all.ndjson"}], "error": [{"url": "errors.ndjson"}]}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    done = check(source={"kind": "files", "path": str(folder)})
    assert (2, "files") == done.counts()["Patient"]
    assert {} == done.needs("files")


def test_what_would_stop_the_mapping_is_the_status(check: Any, server: Any) -> None:
    """Subjects without an identifier and no key file: a run would end with 11."""
    for one in server.resources:
        if one["resourceType"] == "ResearchSubject":
            del one["identifier"]
    done = check()
    assert 11 == done.status
    assert "site-file" == done.report["blocked"][0]["code"]


def test_candidates_by_condition_are_a_code_filter(server: Any, check: Any, study: Path) -> None:
    """Conditions with the study's codes and without any: what is coded otherwise makes no candidate."""
    text = study.read_text("utf-8")
    rule = "research_study: {system: 'urn:test', value: S1}"
    assert rule in text
    study.write_text(text.replace(rule, "condition: ['urn:icd|C48']"), "utf-8")
    for id_, name, code in (("c1", "a", {"coding": [{"system": "urn:icd", "code": "C48"}]}),
                            ("c2", "b", {"text": "retroperitoneal sarcoma"})):  # fmt: skip
        server.put("Condition", id_, subject={"reference": f"Patient/{name}"}, code=code)
    done = check()
    assert 1 == done.report["subjects"]
    (found,) = [one for one in done.report["filters"] if one["needed"] is None]
    assert (1, 2, 1) == (found["codes"], found["without"], found["filtered"])
