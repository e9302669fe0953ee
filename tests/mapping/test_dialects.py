"""The ways in which hospitals say the same thing, each with its example and the row it becomes."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import mapping_support as support
import pytest
from mapping_support import rows

from fhir_adapter.demo import resources as r

PATIENT = "Patient/six-sd"
mapped = partial(support.mapped, patients=("six-sd", "six-cr"))
NCIT = r.NCIT
AEB = "http://hl7.org/fhir/uv/ae-research-backport-ig/StructureDefinition/"
CTCAE = "http://hl7.org/fhir/us/ctcae/CodeSystem/ctcae-grade-code-system"
ONCONOVA = "http://onconova.github.io/fhir/StructureDefinition/onconova-ext-"
CODEX = "http://hl7.org/fhir/us/codex-radiation-therapy/StructureDefinition/"
MII = (
    "https://www.medizininformatik-initiative.de/fhir/ext/modul-onko/CodeSystem/"
    "mii-vs-onko-nebenwirkung-ctcae-grad"
)


def event(**elements: Any) -> dict[str, Any]:
    """An adverse event without a grade, and some elements."""
    made = r.adverse_event(
        "an-event",
        patient=PATIENT,
        study="ResearchStudy/six-study",
        term="Nausea",
        date="2021-06-01",
        grade=None,
    )
    extension = elements.pop("extension", [])
    return made | elements | {"extension": made["extension"] + extension}


def concept(system: str, symbol: str) -> dict[str, Any]:
    """A CodeableConcept of one coding."""
    return r.concept((system, symbol, ""))


GRADES = {
    "Vulcan R4": {"extension": [{"url": f"{AEB}ae-grade", "valueCodeableConcept": concept(NCIT, "C41340")}]},
    "Vulcan R5": {
        "extension": [
            {
                "url": "http://hl7.org/fhir/uv/ae-research-ig/StructureDefinition/ae-grade",
                "valueCodeableConcept": concept(NCIT, "C41340"),
            }
        ]
    },
    "CTCAE draft": {
        "extension": [
            {
                "url": "http://hl7.org/fhir/us/ctcae/StructureDefinition/ctcae-grade",
                "valueCodeableConcept": concept(CTCAE, "3"),
            }
        ]
    },
    "CTCAE draft, the URL of its own invariant": {
        "extension": [
            {
                "url": "http://hl7.org/fhir/us/mcode/StructureDefinition/ctcae-grade",
                "valueCodeableConcept": concept(CTCAE, "3"),
            }
        ]
    },
    "CodeX radiotherapy": {
        "extension": [
            {
                "url": f"{CODEX}codexrt-radiotherapy-adverse-event-severity-or-grade",
                "valueCodeableConcept": concept(NCIT, "C41340"),
            }
        ]
    },
    "CodeX radiotherapy 1.0.0, misspelt": {
        "extension": [
            {
                "url": f"{CODEX}codexrt-radiotheraphy-adverse-event-severity-or-grade",
                "valueCodeableConcept": r.concept(text="Grade 3"),
            }
        ]
    },
    "Onconova": {"extension": [{"url": f"{ONCONOVA}adverse-event-ctc-grade", "valueInteger": 3}]},
    "Onconova, older": {"extension": [{"url": f"{ONCONOVA}ctc-grade", "valueInteger": 3}]},
    "MII, in severity": {"severity": concept(MII, "3")},
}


@pytest.mark.parametrize("dialect", GRADES)
def test_grade(dialect: str):
    """Every encoding of a CTCAE grade that is known arrives as the same number, without a finding."""
    result = mapped(event(**GRADES[dialect]))
    assert rows(result, "AE", "AETOXGR", AEDECOD="Nausea", USUBJID="SIX-003") == [(3,)]
    assert {item.code for item in result.findings} == {"unknown-code"}


def test_base_severity_is_a_lossy_grade():
    """mild, moderate, severe is not CTCAE: it is used where there is nothing else, and found."""
    severity = concept("http://terminology.hl7.org/CodeSystem/adverse-event-severity", "severe")
    result = mapped(event(severity=severity))
    assert rows(result, "AE", "AETOXGR", AEDECOD="Nausea", USUBJID="SIX-003") == [(3,)]
    assert "lossy-code" in {item.code for item in result.findings}


def test_the_profile_wins_over_severity():
    """Two places that disagree: the first in the order of the view counts."""
    both = GRADES["Vulcan R4"] | {"severity": concept(MII, "1")}
    assert rows(mapped(event(**both)), "AE", "AETOXGR", AEDECOD="Nausea", USUBJID="SIX-003") == [(3,)]


def test_a_missing_grade_stays_visible():
    """An event without a grade is kept without one, and found."""
    result = mapped(event())
    assert rows(result, "AE", "AETOXGR", AEDECOD="Nausea", USUBJID="SIX-003") == [(None,)]
    assert "grade-missing" in {item.code for item in result.findings}


@pytest.mark.parametrize(
    ("codes", "text", "term"),
    [
        ([("https://www.meddra.org", "10028813", "")], None, "Nausea"),
        ([("http://terminology.hl7.org/CodeSystem/mdr", "10028813", "")], None, "Nausea"),
        ([(NCIT, "C143283", "")], None, "Anemia"),
        ([("urn:local", "N1", "Nausea")], None, "Nausea"),
        ([("urn:local", "N2", "")], "hand-foot syndrome", "Palmar-plantar erythrodysesthesia syndrome"),
        ([], "RCCEP", "Reactive cutaneous capillary endothelial proliferation"),
        ([], "高血压", "Hypertension"),
    ],
)
def test_event_term(codes: list[r.Code], text: str | None, term: str):
    """MedDRA under both its names, NCIt, a local code by its display, and words in two scripts."""
    made = event(event=r.concept(*codes, text=text))
    assert rows(mapped(made), "AE", "AEDECOD", AESTDTC="2021-06-01") == [(term,)]


def test_an_unknown_event_keeps_its_words():
    """The event stays, under its own words, and the code is a finding with all that is known of it."""
    result = mapped(event(event=r.concept(("urn:local", "X9", "Strange feeling"))))
    assert rows(result, "AE", "AETERM", "AEDECOD", AESTDTC="2021-06-01") == [
        ("Strange feeling", "Strange feeling")
    ]
    assert {
        "concept_map": "adverse-event",
        "system": "urn:local",
        "code": "X9",
        "display": "Strange feeling",
        "count": 1,
    } in [json.loads(item.detail) for item in result.findings if item.detail]


def core_suspect(assessment: dict[str, Any], instance: str) -> dict[str, Any]:
    """An event with R4's own suspectEntity."""
    made = event(
        suspectEntity=[{"instance": r.reference(instance), "causality": [{"assessment": assessment}]}]
    )
    made["extension"] = [item for item in made["extension"] if not item["url"].endswith("suspect-entity")]
    return made


CAUSALITY = "http://terminology.hl7.org/CodeSystem/adverse-event-causality-assess"


@pytest.mark.parametrize("code", ["Probably-Likely", "probably-likely"])
def test_causality_of_the_core_element(code: str):
    """R4's own suspectEntity, in the spelling of both releases, on a study drug by reference."""
    made = core_suspect(concept(CAUSALITY, code), "MedicationAdministration/six-sd-camrelizumab-1")
    assert rows(mapped(made), "AE", "AEREL", AESTDTC="2021-06-01") == [("PROBABLE",)]


def test_causality_to_another_drug_is_not_ours():
    """An event that is laid to another drug has no causality to the study's drugs: unknown, not unrelated."""
    other = r.medication_statement("other", patient=PATIENT, drug="Amlodipine", start="2021-01-01")
    made = core_suspect(concept(CAUSALITY, "certain"), "MedicationStatement/other")
    assert rows(mapped(made, other), "AE", "AEREL", AESTDTC="2021-06-01") == [(None,)]


def test_absent_causality_is_unknown():
    """A suspect without causality."""
    made = event()
    for item in made["extension"]:
        if item["url"].endswith("suspect-entity"):
            item["extension"] = item["extension"][:1]
    assert rows(mapped(made), "AE", "AEREL", AESTDTC="2021-06-01") == [(None,)]


@pytest.mark.parametrize(
    ("code", "serious"), [("SeriousResultsInDeath", "Y"), ("Non-serious", "N"), ("serious", "Y")]
)
def test_seriousness_of_both_releases(code: str, serious: str):
    """One code system, two sets of codes."""
    made = event(seriousness=concept("http://terminology.hl7.org/CodeSystem/adverse-event-seriousness", code))
    assert rows(mapped(made), "AE", "AESER", AESTDTC="2021-06-01") == [(serious,)]


@pytest.mark.parametrize(("patient", "found"), [("Patient/six-sd", True), ("Patient/six-pd", False)])
def test_a_fatal_event_of_a_living_patient_is_found(patient: str, found: bool):
    """A fatal outcome is compared with the Patient; the dead one raises no finding."""
    made = r.adverse_event(
        "an-event",
        patient=patient,
        study="ResearchStudy/six-study",
        term="Pneumonitis",
        date="2021-06-01",
        grade=5,
        outcome="fatal",
        serious="death",
    )
    result = support.mapped(made, patients=("six-sd", "six-pd"))
    assert rows(result, "AE", "AETOXGR", "AEOUT", "AESER", AEDECOD="Pneumonitis") == [(5, "FATAL", "Y")]
    assert ("fatal-event-without-death" in {item.code for item in result.findings}) is found


RESPONSES = {
    "LOINC answer": concept("http://loinc.org", "LA28369-9"),
    "NCIt": concept(NCIT, "C18058"),
    "RadLex": concept("http://radlex.org/RID", "11513"),
    "OMOP": concept("http://fhir.ohdsi.org/CodeSystem/concepts", "32947"),
    "CDISC text": r.concept(text="PR"),
    "words": r.concept(text="Partial response"),
    "Chinese": r.concept(text="部分缓解"),
}


@pytest.mark.parametrize("dialect", RESPONSES)
def test_response(dialect: str):
    """Partial response in every encoding that is known."""
    made = r.investigator_response("a-response", patient=PATIENT, date="2021-12-14", response="PR")
    result = mapped(made | {"valueCodeableConcept": RESPONSES[dialect]})
    assert rows(result, "RS", "RSSTRESC", RSDTC="2021-12-14") == [("PR",)]


def test_a_trend_is_not_a_response():
    """SNOMED's `improved` is neither CR nor PR: no result, and a finding; `stable` is taken, and found."""
    made = r.investigator_response("a-response", patient=PATIENT, date="2021-12-14", response="PR")
    for code, expected, finding in (("268910001", None, "ambiguous-code"), ("359746009", "SD", "lossy-code")):
        result = mapped(made | {"valueCodeableConcept": concept("http://snomed.info/sct", code)})
        assert rows(result, "RS", "RSSTRESC", RSDTC="2021-12-14") == [(expected,)]
        assert finding in {item.code for item in result.findings}


def test_an_independent_reader_is_told_by_the_performer():
    """RSEVAL is the investigator unless the performer says otherwise; a person's name is not kept."""
    made = r.investigator_response("a-response", patient=PATIENT, date="2021-12-14", response="PR")
    for name, evaluator in (
        ("Independent Review Committee", "INDEPENDENT ASSESSOR"),
        ("Dr X", "INVESTIGATOR"),
    ):
        result = mapped(made | {"performer": [{"display": name}]})
        assert rows(result, "RS", "RSEVAL", RSDTC="2021-12-14") == [(evaluator,)]
        assert "Dr X" not in repr(result.findings)


def size(**facts: Any) -> dict[str, Any]:
    """A diameter on a day of its own."""
    return r.tumor_size(
        "a-size",
        **(
            {"patient": PATIENT, "lesion": "BodyStructure/six-sd-t01", "date": "2021-12-14", "value": 33}
            | facts
        ),
    )


def component(system: str, symbol: str, **value: Any) -> dict[str, Any]:
    """A component."""
    return {"code": concept(system, symbol)} | value


DICOM = "http://dicom.nema.org/resources/ontology/DCM"


def test_lesion_by_tracking_uid():
    """Without a BodyStructure the DICOM tracking UID says which lesion it is; a component says its role."""
    made = size(lesion=None, role="NON-TARGET")
    made["component"].append(component(DICOM, "112040", valueString="1.2.3.4"))
    result = mapped(made)
    assert rows(result, "TR", "TRLNKID", "TRSTRESN", TRDTC="2021-12-14") == [("1.2.3.4", 33.0)]
    assert rows(result, "TU", "TUSTRESC", TULNKID="1.2.3.4") == [("NON-TARGET",)]


def test_role_by_the_tracking_identifier():
    """The tracking UID says which lesion it is; the tracking identifier beside it is what people call it."""
    made = size(lesion=None)
    made["component"].append(component(DICOM, "112040", valueString="1.2.3.4"))
    made["component"].append(component(DICOM, "112039", valueString="NT-2"))
    result = mapped(made)
    assert rows(result, "TU", "TUORRES", "TUSTRESC", TULNKID="1.2.3.4") == [("NT-2", "NON-TARGET")]


def test_lesion_by_configured_identifier():
    """An identifier of the Observation counts where the study names its system; the category gives a role."""
    made = size(lesion=None) | {
        "identifier": [{"system": "urn:lesions", "value": "L7"}],
        "category": [r.concept(text="Target lesion")],
    }
    result = mapped(made, mapping={"lesion_identifier_system": "urn:lesions"})
    assert rows(result, "TR", "TRLNKID", TRDTC="2021-12-14") == [("L7",)]
    assert rows(result, "TU", "TUSTRESC", TULNKID="L7") == [("TARGET",)]
    assert rows(mapped(made), "TR", "TRLNKID", TRDTC="2021-12-14") == []


def test_lesion_by_a_logical_reference():
    """A `focus` that names the BodyStructure by its identifier only; the prefix says the role."""
    made = size(lesion=None)
    made["focus"] = [{"type": "BodyStructure", "identifier": {"system": "urn:lesions", "value": "T02"}}]
    result = mapped(made)
    assert rows(result, "TR", "TRLNKID", TRDTC="2021-12-14") == [("T02",)]
    assert rows(result, "TU", "TUSTRESC", "TUDTC", USUBJID="SIX-003", TULNKID="T02") == [
        ("TARGET", "2021-12-14")
    ]


def test_a_lesion_without_a_role_is_found():
    """No component, no category, no prefix: the role is missing, and a finding says so."""
    made = size(lesion=None)
    made["component"].append(component(DICOM, "112040", valueString="1.2.3.4"))
    result = mapped(made)
    assert rows(result, "TU", "TUSTRESC", TULNKID="1.2.3.4") == [(None,)]
    assert "lesion-role" in {item.code for item in result.findings}


def test_roles_that_disagree_are_found():
    """A component that says non-target on a lesion called T01: a finding."""
    assert "role-conflict" in {item.code for item in mapped(size(role="NON-TARGET")).findings}


def test_size_as_the_value_of_the_observation():
    """A diameter as an Observation of its own, not as a component."""
    made = size()
    quantity = made.pop("component")[0]["valueQuantity"]
    made |= {"code": concept("http://loinc.org", "33728-7"), "valueQuantity": quantity}
    assert rows(mapped(made), "TR", "TRLNKID", "TRTESTCD", "TRSTRESN", TRDTC="2021-12-14") == [
        ("T01", "LDIAM", 33.0)
    ]


@pytest.mark.parametrize(
    ("codes", "value", "finding"),
    [
        (
            ["https://fhir-adapter.org/CodeSystem/observation|short-axis", "http://loinc.org|33728-7"],
            11.0,
            None,
        ),
        (["http://loinc.org|33728-7", "http://loinc.org|33729-5"], 12.0, None),
        (["http://loinc.org|33728-7"], 11.0, "node-longest-diameter"),
    ],
)
def test_short_axis_of_a_node(codes: list[str], value: float, finding: str | None):
    """The short axis if it is there, else the additional dimension, else the longest with a finding."""
    made = size(patient="Patient/six-cr", lesion="BodyStructure/six-cr-t02")
    made["component"] = [
        component(
            *code.split("|"),
            valueQuantity={
                "value": 11 + number,
                "unit": "mm",
                "system": "http://unitsofmeasure.org",
                "code": "mm",
            },
        )
        for number, code in enumerate(codes)
    ]
    result = mapped(made)
    assert rows(result, "TR", "TRTESTCD", "TRSTRESN", TRDTC="2021-12-14") == [("LPERP", value)]
    assert (finding in {item.code for item in result.findings}) is (finding is not None)


def test_visit_by_time_point_encounter_or_nothing():
    """The time point component comes before the Encounter's label; without either there is no label."""
    at_week_27 = "Encounter/six-sd-visit-week27"
    for facts, label in (
        ({"time_point": "TP4", "encounter": at_week_27}, "TP4"),
        ({"encounter": at_week_27}, "Week 27"),
        ({"imaging": "ImagingStudy/six-sd-scan-week27"}, "Week 27"),
        ({}, None),
    ):
        assert rows(mapped(size(**facts)), "TR", "VISIT", TRDTC="2021-12-14") == [(label,)]


def test_length_to_a_thousandth_of_a_millimetre():
    """Cm become mm without a trace of binary fractions."""
    assert rows(mapped(size(value=1.2345, unit="cm")), "TR", "TRSTRESC", TRDTC="2021-12-14") == [("12.345",)]


def test_a_unit_in_words_only_is_found():
    """`mm` without its UCUM code is taken, and found."""
    made = size()
    made["component"][0]["valueQuantity"] = {"value": 33, "unit": "mm"}
    result = mapped(made)
    assert rows(result, "TR", "TRSTRESN", TRDTC="2021-12-14") == [(33.0,)]
    assert "unit-as-text" in {item.code for item in result.findings}


def dose(**elements: Any) -> dict[str, Any]:
    """A dose on a day of its own."""
    made = r.administration("a-dose", patient=PATIENT, start="2021-12-15", drug="x", dose=1)
    del made["medicationCodeableConcept"]
    return made | elements


DRUGS: dict[str, dict[str, Any]] = {
    "text": {"medicationCodeableConcept": r.concept(text="Anlotinib")},
    "other case and spaces": {"medicationCodeableConcept": r.concept(text=" ANLOTINIB  hydrochloride ")},
    "INN": {"medicationCodeableConcept": r.concept(text="catequentinib")},
    "development code": {"medicationCodeableConcept": r.concept(text="AL3818")},
    "Chinese": {"medicationCodeableConcept": r.concept(text="安罗替尼")},
    "local code with a display": {"medicationCodeableConcept": r.concept(("urn:local", "77", "Anlotinib"))},
    "reference": {"medicationReference": {"reference": "Medication/six-anlotinib"}},
    "absolute reference": {
        "medicationReference": {"reference": "https://server/fhir/Medication/six-anlotinib"}
    },
    "versioned reference": {"medicationReference": {"reference": "Medication/six-anlotinib/_history/1"}},
    "contained": {
        "contained": [{"resourceType": "Medication", "id": "m", "code": {"text": "AL-3818"}}],
        "medicationReference": {"reference": "#m"},
    },
}


@pytest.mark.parametrize("dialect", DRUGS)
def test_drug(dialect: str):
    """A study drug is found whatever way it is named."""
    assert rows(mapped(dose(**DRUGS[dialect])), "EX", "EXTRT", EXSTDTC="2021-12-15") == [("anlotinib",)]


@pytest.mark.parametrize(
    ("status", "given"), [("not-done", "N"), ("on-hold", "H"), ("stopped", "S"), ("in-progress", "Y")]
)
def test_doses_that_were_not_given(status: str, given: str):
    """A missed, held or stopped dose of a study drug is a row with its reason."""
    made = dose(status=status, statusReason=[r.concept(text="Hypertension")], **DRUGS["text"])
    expected = [(given, None if given == "Y" else "Hypertension")]
    assert rows(mapped(made), "EX", "EXOCCUR", "EXREASND", EXSTDTC="2021-12-15") == expected


def test_an_unknown_drug_is_another_medication():
    """It is no exposure, keeps its words, and is a finding: it might be a study drug by another name."""
    result = mapped(dose(medicationCodeableConcept=r.concept(text="Wonderdrug")))
    assert rows(result, "CM", "CMTRT", "CMDECOD", "CMCAT", CMSTDTC="2021-12-15") == [
        ("Wonderdrug", None, "OTHER")
    ]
    assert any('"display":"Wonderdrug"' in item.detail for item in result.findings)


def test_a_medication_that_did_not_land_is_found():
    """An unresolved reference."""
    result = mapped(dose(medicationReference={"reference": "Medication/nowhere"}))
    assert "unresolved-reference" in {item.code for item in result.findings}


def test_a_statement_of_a_drug_that_was_administered_is_not_counted_twice():
    """With administrations of a drug at hand, a statement of it is another medication; without, exposure."""
    made = r.medication_statement(
        "a-statement", patient=PATIENT, drug="Anlotinib", start="2021-04-07", end="2021-10-01"
    )
    assert rows(mapped(made), "CM", "CMDECOD", USUBJID="SIX-003") == [("anlotinib",)]
    administered = [f"MedicationAdministration/six-sd-anlotinib-{number}" for number in range(1, 9)]
    result = mapped(made, without=administered)
    assert rows(result, "EX", "EXSTDTC", USUBJID="SIX-003", EXTRT="anlotinib") == [("2021-04-07",)]


@pytest.mark.parametrize(
    ("diagnosis", "profile", "category"),
    [
        ((r.ICD_10, "C78.6", ""), "other", "SECONDARY"),
        (("http://hl7.org/fhir/sid/icd-10-cm", "C48.0", ""), "other", "PRIMARY"),
        ((r.ICD_10, "I10", ""), "other", "OTHER"),
        (("urn:local", "M1", ""), "secondary", "SECONDARY"),
    ],
)
def test_conditions(diagnosis: r.Code, profile: Any, category: str):
    """Primary, secondary or other: by the mCODE profile that is claimed, else by the chapter of ICD-10."""
    made = r.condition("a-condition", patient=PATIENT, kind=profile, diagnosis=diagnosis, onset="2021-03-03")
    assert rows(mapped(made), "MH", "MHCAT", MHSTDTC="2021-03-03") == [(category,)]


HISTOLOGY = {
    "ICD-O-3 as the code": {"code": concept(r.ICD_O_3, "8890/3")},
    "words": {"code": r.concept(text="Leiomyosarcoma")},
    "extension": {
        "extension": [
            {
                "url": "http://hl7.org/fhir/us/mcode/StructureDefinition/mcode-histology-morphology-behavior",
                "valueCodeableConcept": concept("http://terminology.hl7.org/CodeSystem/icd-o", "8890/3"),
            }
        ]
    },
    "Observation": {},
}


@pytest.mark.parametrize("dialect", HISTOLOGY)
def test_histology(dialect: str):
    """Histology by the mCODE extension, by the diagnosis itself, or by an Observation."""
    made = r.condition(
        "six-sd-primary",
        patient=PATIENT,
        kind="primary",
        diagnosis=("http://hl7.org/fhir/sid/icd-10", "C48.0", ""),
        onset="2021-03-03",
    )
    observation = r.observation_lab(
        "a-histology",
        patient=PATIENT,
        date="2021-03-04",
        test=("http://loinc.org", "31206-6", ""),
        value=None,
    ) | {"valueCodeableConcept": concept(r.ICD_O_3, "8890/3")}
    more = [observation] if dialect == "Observation" else []
    result = mapped(made | HISTOLOGY[dialect], *more)
    assert rows(result, "MH", "MHCAT", "MHMORPH", MHSTDTC="2021-03-03") == [("PRIMARY", "Leiomyosarcoma")]


def test_a_grade_by_another_system_is_not_fnclcc():
    """The same value under another grading method is another characteristic."""
    made = r.fnclcc("a-grade", patient=PATIENT, date="2021-03-05", grade=2)
    other = made | {"method": concept("http://snomed.info/sct", "393520003")}
    assert rows(mapped(made), "SC", "SCTESTCD", "SCSTRESC", SCDTC="2021-03-05") == [("FNCLCC", "2")]
    assert rows(mapped(other), "SC", "SCTESTCD", "SCSTRESC", SCDTC="2021-03-05") == [("HISTGRD", "2")]
