"""The synthetic reference cohort: 65 patients of a retroperitoneal sarcoma study, as a hospital would hold them.

The raw facts (who, which scans, which measurements, doses, visits, events) stand as CSV files in `cohort/`; this module
turns them into FHIR R4 resources. None of the people exists. No response, event date or other answer stands here.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, cast

from fhir_adapter.demo import resources as r
from fhir_adapter.demo.resources import Resource

__all__ = ["STUDY_IDENTIFIER", "SUBJECT_SYSTEM", "reference_cohort"]

SUBJECT_SYSTEM = "https://fhir-adapter.org/rps/subject"
STUDY_IDENTIFIER = ("https://fhir-adapter.org/rps/study", "RPS")
_STUDY = "rps-study"
_FACTS = Path(__file__).parent / "cohort"

_TOPOGRAPHY = {
    "Retroperitoneum": (r.ICD_O_3, "C48.0", "Retroperitoneum"),
    "Peritoneum": (r.ICD_O_3, "C48.2", "Peritoneum, NOS"),
    "Liver": (r.ICD_O_3, "C22.0", "Liver"),
    "Lung": (r.ICD_O_3, "C34.9", "Lung, NOS"),
    "Lymph node": (r.ICD_O_3, "C77.2", "Intra-abdominal lymph nodes"),
}
_LOINC = "http://loinc.org"
_ICD_10 = "http://hl7.org/fhir/sid/icd-10"
_PRIMARY = (_ICD_10, "C48.0", "Malignant neoplasm of retroperitoneum")
_SECONDARY = {
    "lung": ((_ICD_10, "C78.0", "Secondary malignant neoplasm of lung"), "Lung"),
    "liver": ((_ICD_10, "C78.7", "Secondary malignant neoplasm of liver"), "Liver"),
    "peritoneum": ((_ICD_10, "C78.6", "Secondary malignant neoplasm of peritoneum"), "Peritoneum"),
    "lymph node": ((_ICD_10, "C77.2", "Intra-abdominal lymph nodes"), "Lymph node"),
}
_MORPHOLOGY = "http://hl7.org/fhir/us/mcode/StructureDefinition/mcode-histology-morphology-behavior"
#: MedDRA codes where the terms have one; the others are recorded as text, as hospitals do.
_MEDDRA = {
    "Hypertension": "10020772",
    "Hypothyroidism": "10021114",
    "Proteinuria": "10037032",
    "Mucositis oral": "10028130",
    "Anemia": "10002272",
}
_LOST = ("http://snomed.info/sct", "399307001", "Lost to follow-up")
_NOT_TOLERATED = ("http://snomed.info/sct", "407563006", "Treatment not tolerated")
#: Results that hospitals have and the study does not need (LOINC code, display, unit, usual value).
_LABORATORY = (
    ("718-7", "Hemoglobin [Mass/volume] in Blood", "g/L", 128.0),
    ("2160-0", "Creatinine [Mass/volume] in Serum or Plasma", "umol/L", 71.0),
)
_VITAL = ("8480-6", "Systolic blood pressure", "mm[Hg]", 127.0)

Facts = dict[str, dict[str, list[dict[str, str]]]]


def _facts() -> Facts:
    """CSV rows by file and subject."""
    found: Facts = {}
    for path in sorted(_FACTS.glob("*.csv")):
        by_subject: dict[str, list[dict[str, str]]] = defaultdict(list)
        with path.open(newline="", encoding="utf-8") as handle:
            for row in csv.DictReader(handle):
                by_subject[row["subject"]].append(row)
        found[path.stem] = by_subject
    return found


def _number(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() else value


def _baseline_resources(row: dict[str, str], first_scan: str) -> Iterator[Resource]:
    key = row["subject"].lower()
    patient = f"Patient/{key}"
    yield r.patient(
        key,
        gender=cast("Literal['male', 'female']", row["sex"]),
        birth_date=row["birth_date"],
        deceased=row["death"] or None,
        name=("Synthetic", row["subject"]),
        identifier=("https://fhir-adapter.org/rps/mrn", f"M{row['subject'][4:]}"),
    )
    yield r.research_subject(
        f"{key}-rsub", patient=patient, study=f"ResearchStudy/{_STUDY}", identifier=(SUBJECT_SYSTEM, row["subject"]),
        start=row["consented"], status=row["status"],
    )  # fmt: skip
    coded = row["histology"][0].isdigit()
    primary = r.condition(
        f"{key}-primary", patient=patient, kind="primary", diagnosis=_PRIMARY, onset=row["onset"],
        morphology=(r.ICD_O_3, row["histology"], "") if coded else None, site=_TOPOGRAPHY["Retroperitoneum"],
    )  # fmt: skip
    if not coded:
        primary["extension"] = [{"url": _MORPHOLOGY, "valueCodeableConcept": {"text": row["histology"]}}]
    yield primary
    for site in filter(None, row["metastases"].split(";")):
        diagnosis, place = _SECONDARY[site]
        yield r.condition(
            f"{key}-met-{site.replace(' ', '-')}", patient=patient, kind="secondary", diagnosis=diagnosis,
            site=_TOPOGRAPHY[place], recorded=first_scan,
        )  # fmt: skip
    yield r.fnclcc(f"{key}-fnclcc", patient=patient, date=row["onset"], grade=int(row["grade"]))
    yield r.ecog(f"{key}-ecog", patient=patient, date=first_scan, value=int(row["ecog"]))
    if row["surgery"]:
        yield r.procedure(
            f"{key}-surgery", patient=patient, kind="SURGERY", date=row["surgery"], text="Tumour resection"
        )
    for name, when in (("earlier", row["earlier_line"]), ("later", row["later_line"])):
        if when:
            start, end = when.split("/")
            for drug in ("Doxorubicin", "Ifosfamide"):
                yield r.medication_statement(
                    f"{key}-{name}-{drug.lower()}", patient=patient, drug=drug, start=start, end=end
                )


def _scan_resources(key: str, facts: dict[str, list[dict[str, str]]]) -> Iterator[Resource]:
    patient = f"Patient/{key}"
    lesions = {row["lesion"]: row for row in facts["lesions"]}
    for name, lesion in lesions.items():
        yield r.body_structure(
            f"{key}-{name.lower()}", patient=patient, lesion=name, location=_TOPOGRAPHY[lesion["location"]]
        )
    visits: dict[str, tuple[str, str, str]] = {}
    for number, scan in enumerate(facts["scans"]):
        encounter, imaging = f"{key}-scan-{number}", f"{key}-img-{number}"
        modality = scan["modality"]
        visits[scan["date"]] = (f"Encounter/{encounter}", f"ImagingStudy/{imaging}", modality)
        yield r.encounter(encounter, patient=patient, start=scan["date"], label=scan["label"])
        yield r.imaging_study(
            imaging, patient=patient, started=scan["date"], modality="MR" if modality == "MRI" else "CT",
            encounter=f"Encounter/{encounter}",
        )  # fmt: skip
    for number, row in enumerate(facts["measurements"]):
        encounter, imaging, method = visits[row["date"]]
        lesion = lesions[row["lesion"]]
        yield r.tumor_size(
            f"{key}-size-{number}", patient=patient, lesion=f"BodyStructure/{key}-{row['lesion'].lower()}",
            date=row["date"], value=_number(row["value"]) if row["value"] else None,
            unit=cast("Literal['mm', 'cm']", row["unit"] or "mm"),
            comparator=cast("Literal['<']", row["comparator"]) or None, short_axis=bool(lesion["node"]),
            role=cast("r.Role", lesion["role"]), absent=cast("Any", row["absent"]) or None, encounter=encounter,
            imaging=imaging, method=method,
        )  # fmt: skip
    for number, row in enumerate(facts["states"]):
        encounter, imaging, method = visits[row["date"]]
        yield r.tumor_state(
            f"{key}-state-{number}", patient=patient, lesion=f"BodyStructure/{key}-{row['lesion'].lower()}",
            date=row["date"], state=cast("r.State", row["state"]), encounter=encounter, imaging=imaging, method=method,
        )  # fmt: skip
    for number, row in enumerate(facts["responses"]):
        yield r.investigator_response(
            f"{key}-response-{number}", patient=patient, date=row["date"], response=cast("Any", row["response"]),
            condition=f"Condition/{key}-primary", encounter=visits[row["date"]][0],
        )  # fmt: skip


def _treatment_resources(key: str, facts: dict[str, list[dict[str, str]]]) -> Iterator[Resource]:
    patient = f"Patient/{key}"
    for number, row in enumerate(facts["doses"]):
        oral = row["drug"] == "anlotinib"
        why = {"": None, "lost to follow-up": _LOST, "not tolerated": _NOT_TOLERATED}[row["reason"]]
        yield r.administration(
            f"{key}-dose-{number}", patient=patient, drug=row["drug"].capitalize(), start=row["start"],
            end=row["end"] or None, dose=_number(row["dose"]) if row["dose"] else None,
            route="oral" if oral else "intravenous", status=cast("Any", row["status"]), status_reason=why,
        )  # fmt: skip
    for number, row in enumerate(facts["visits"]):
        encounter = f"{key}-visit-{number}"
        yield r.encounter(encounter, patient=patient, start=row["date"], label=row["label"])
        if not row["label"].startswith("Cycle"):
            continue
        # Plain arithmetic makes values that vary without a random generator.
        shift = (number * 37 + int(key[4:]) * 11) % 23 - 11
        for code, display, unit, usual in _LABORATORY:
            yield r.observation_lab(
                f"{key}-lab-{number}-{code}", patient=patient, date=row["date"], test=(_LOINC, code, display),
                value=usual + shift, unit=unit, encounter=f"Encounter/{encounter}",
            )  # fmt: skip
        code, display, unit, usual = _VITAL
        yield r.vital_sign(
            f"{key}-bp-{number}", patient=patient, date=row["date"], test=(_LOINC, code, display),
            value=usual + shift, unit=unit, encounter=f"Encounter/{encounter}",
        )  # fmt: skip


def _event_resources(key: str, rows: list[dict[str, str]]) -> Iterator[Resource]:
    for number, row in enumerate(rows):
        term = row["term"]
        codes = [(r.MEDDRA, _MEDDRA[term], term)] if term in _MEDDRA else []
        yield r.adverse_event(
            f"{key}-ae-{number}", patient=f"Patient/{key}", study=f"ResearchStudy/{_STUDY}", term=term, codes=codes,
            date=row["date"], grade=int(row["grade"]), resolved=row["resolved"] or None,
            outcome="resolved" if row["resolved"] else "ongoing", causality=cast("Any", row["causality"]) or None,
            suspects=(row["suspects"].capitalize(),), action=cast("Any", row["action"]) or None,
            serious=cast("Any", row["serious"]) or None, status=cast("Any", row["status"]),
            actuality=cast("Any", row["actuality"]),
        )  # fmt: skip


def reference_cohort() -> Iterator[Resource]:
    """The resources of the cohort, the study first and then patient by patient; always the same."""
    yield r.research_study(
        _STUDY,
        identifier=STUDY_IDENTIFIER,
        title="Anlotinib plus camrelizumab in retroperitoneal sarcoma (synthetic)",
    )
    facts = _facts()
    for subject, (row,) in facts["patients"].items():
        key = subject.lower()
        own = {name: rows.get(subject, []) for name, rows in facts.items()}
        yield from _baseline_resources(row, next(s["date"] for s in own["scans"] if s["label"] == "Baseline"))
        yield from _scan_resources(key, own)
        yield from _treatment_resources(key, own)
        yield from _event_resources(key, own["events"])
