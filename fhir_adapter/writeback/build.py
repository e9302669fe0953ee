"""What is written back: Device, Group, Binary, DiagnosticReport, DocumentReference and one Provenance.

Identities are stable by study and kind, never by run date: a client-assigned id made by UUID 5 and, where the
resource has one, an identifier. Nothing here refers literally to a clinical source resource, because that would make
the hospital's own data undeletable; the Provenance points to a lineage manifest of our own, which names the sources
logically with their versions. The ResearchStudy is referred to, as the study's own administrative record.

Every resource is checked against its fhir.resources model (R4B, structurally R4 for these types) before it leaves.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
import pandas as pd
from fhir.resources.R4B import get_fhir_model_class

from fhir_adapter import __version__
from fhir_adapter.analysis.descriptive import round_half_away
from fhir_adapter.own import OWN_TAG_CODE, OWN_TAG_SYSTEM
from fhir_adapter.results import Results
from fhir_adapter.study import Study

__all__ = ["IDENTIFIER_SYSTEM", "build_resources", "lineage_manifest", "own_id"]

_TAG = {"system": OWN_TAG_SYSTEM, "code": OWN_TAG_CODE, "display": "Written by fhir_adapter"}
IDENTIFIER_SYSTEM = "https://fhir-adapter.org/output"
_NAMESPACE = uuid.UUID("6b0f4c1e-2f0b-5b52-9f7c-6a3c2a3f4d10")
_TEST_DATA = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST", "display": "test health data",
}  # fmt: skip


def own_id(study: str, site: str, kind: str) -> str:
    """The client-assigned id of an output: stable by study, site and kind, never purely numeric."""
    return f"fa-{uuid.uuid5(_NAMESPACE, f'{study}|{site}|{kind}')}"


def lineage_manifest(sdtm: Mapping[str, pd.DataFrame], study: Study, data_cutoff: str) -> bytes:
    """The source resources, with versions, behind the study's datasets, as JSON; no patient data but logical ids."""
    sources: dict[str, set[str]] = {}
    for name, frame in sdtm.items():
        for references in frame["SRCREF"].dropna():
            sources.setdefault(name, set()).update(str(references).split(" "))
    body = {
        "study": study.study.id,
        "dataCutoff": data_cutoff,
        "sources": {name: sorted(sources[name]) for name in sorted(sources)},
    }
    return msgspec.json.format(msgspec.json.encode(body), indent=1) + b"\n"


def _conclusion(study: Study, results: Results) -> str:
    known = results.results
    parts = [f"{study.study.title}. Data cut-off {results.data_cutoff}."]
    total = known.get("response.total.n")
    for id_, label in (
        ("response.total.orr", "Objective response rate"),
        ("response.total.dcr", "Disease control rate"),
    ):
        rate, n = known.get(f"{id_}.pct"), known.get(f"{id_}.n")
        if rate is not None and rate.value is not None and n is not None and total is not None:
            parts.append(f"{label} {round_half_away(float(rate.value), 1)}% ({n.value}/{total.value}).")
    for endpoint in study.endpoints:
        median = known.get(f"survival.{endpoint.id.lower()}.median")
        if median is not None:
            said = (
                "not reached"
                if median.value is None
                else f"{round_half_away(float(median.value), 1)} {endpoint.unit}"
            )
            parts.append(f"Median {endpoint.id}: {said}.")
    if study.study.synthetic:
        parts.append("The data are synthetic.")
    return " ".join(parts)


def build_resources(
    *,
    study: Study,
    site: str,
    results: Results,
    report: bytes,
    results_json: bytes,
    manifest: bytes,
    research_study: str | None,
    recorded: str,
) -> list[dict[str, Any]]:
    """Builds every resource of the write-back, in the order in which a transaction lists them.

    Args:
        study: the study definition.
        site: id of the site.
        results: typed results, for the conclusion and the number of subjects.
        report: bytes of report.html.
        results_json: bytes of results.json.
        manifest: bytes of the lineage manifest.
        research_study: `ResearchStudy/<id>` on the server, if it has one.
        recorded: instant for `Provenance.recorded`; it is left out of every comparison.

    Returns:
        FHIR R4 resources as dicts, each with a client-assigned id and the adapter's tag.

    Raises:
        ValueError: a resource that its own model refuses (a defect).
    """
    study_id = study.study.id

    def shell(type_: str, kind: str, *, identifier: bool = True) -> dict[str, Any]:
        resource: dict[str, Any] = {
            "resourceType": type_,
            "id": own_id(study_id, site, kind),
            "meta": {"tag": [_TAG]},
        }
        if study.study.synthetic:
            resource["meta"]["security"] = [_TEST_DATA]
        if identifier:
            resource["identifier"] = [{"system": IDENTIFIER_SYSTEM, "value": f"{study_id}|{site}|{kind}"}]
        return resource

    def reference(resource: Mapping[str, Any]) -> dict[str, str]:
        return {"reference": f"{resource['resourceType']}/{resource['id']}"}

    device = shell("Device", "device") | {
        "deviceName": [{"name": "fhir_adapter", "type": "model-name"}],
        "version": [{"value": __version__}],
        "type": {"text": "Software: FHIR study adapter"},
    }
    analysed = results.results.get("flow.analysed.n")
    group = shell("Group", "subjects") | {
        "type": "person",
        "actual": True,
        "active": True,
        "name": f"Subjects analysed in {study.study.title}",
    }
    if analysed is not None and analysed.value is not None:
        group["quantity"] = int(analysed.value)
    binaries = {
        kind: shell("Binary", kind, identifier=False)
        | {"contentType": content, "data": base64.b64encode(data).decode("ascii")}
        for kind, content, data in (
            ("report", "text/html", report),
            ("results", "application/json", results_json),
            ("lineage", "application/json", manifest),
        )
    }

    def attachment(kind: str, title: str) -> dict[str, Any]:
        return {
            "contentType": binaries[kind]["contentType"], "url": f"Binary/{binaries[kind]['id']}", "title": title,
        }  # fmt: skip

    code = {"text": f"Study report: {study.study.title}"}
    diagnostic = shell("DiagnosticReport", "diagnostic-report") | {
        "status": "final",
        "code": code,
        "subject": reference(group),
        "performer": [],
        "conclusion": _conclusion(study, results),
        "presentedForm": [attachment("report", "Study report (HTML)")],
    }
    del diagnostic["performer"]  # a Device cannot perform a DiagnosticReport in R4; the Provenance names it
    document = shell("DocumentReference", "report-document") | {
        "status": "current",
        "docStatus": "final",
        "type": code,
        "subject": reference(group),
        "author": [reference(device)],
        "description": f"Study report and results of {study.study.id}, data cut-off {results.data_cutoff}",
        "content": [
            {"attachment": attachment("report", "Study report (HTML)")},
            {"attachment": attachment("results", "Results (JSON)")},
        ],
    }
    lineage = shell("DocumentReference", "lineage-document") | {
        "status": "current",
        "type": {"text": f"Lineage manifest: {study.study.title}"},
        "subject": reference(group),
        "author": [reference(device)],
        "description": "The source resources, with versions, from which the results were computed",
        "content": [{"attachment": attachment("lineage", "Lineage manifest (JSON)")}],
    }
    if research_study is not None:
        for item in (document, lineage):
            item["context"] = {"related": [{"reference": research_study}]}
    outputs = [device, group, *binaries.values(), diagnostic, document, lineage]
    provenance = shell("Provenance", "provenance", identifier=False) | {
        "target": [reference(item) for item in outputs if item is not device],
        "recorded": recorded,
        "activity": {"text": f"fhir_adapter {__version__}: derivation of study results"},
        "agent": [{"who": reference(device)}],
        "entity": [{"role": "source", "what": reference(lineage)}],
    }
    outputs.append(provenance)
    for item in outputs:
        get_fhir_model_class(item["resourceType"]).model_validate(item)
    return outputs
