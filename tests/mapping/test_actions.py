"""What was done about an event, from the FHIR resources to the report's numbers."""

from __future__ import annotations

import datetime as dt
from functools import partial
from typing import Any

import mapping_support as support
import pytest
from mapping_support import rows, six_study

from fhir_adapter.analysis.stage import analyse
from fhir_adapter.demo import resources as r
from fhir_adapter.derive.stage import derive
from fhir_adapter.results import Results

PATIENT = "Patient/six-sd"
AEB = "http://hl7.org/fhir/uv/ae-research-backport-ig/StructureDefinition/"
NOT_TOLERATED = ("http://snomed.info/sct", "407563006", "Treatment not tolerated")
mapped = partial(support.mapped, patients=("six-sd", "six-cr"))


def event(id_: str = "an-event", **elements: Any) -> dict[str, Any]:
    """A related event of grade 3 without a recorded action."""
    made = r.adverse_event(
        id_, patient=PATIENT, study="ResearchStudy/six-study", term="Nausea", date="2021-06-01", grade=3
    )
    extension = elements.pop("extension", [])
    return made | elements | {"extension": made["extension"] + extension}


def dose(status: str = "on-hold", **elements: Any) -> dict[str, Any]:
    """An administration of the study drug on a day of its own."""
    made = r.administration("a-dose", patient=PATIENT, start="2021-06-15", drug="Anlotinib", status=status)
    return made | elements


def condition(id_: str) -> dict[str, Any]:
    """A Condition that an event resulted in."""
    return {
        "resourceType": "Condition",
        "id": id_,
        "subject": {"reference": PATIENT},
        "code": {"text": "Nausea"},
    }


def ex(*resources: dict[str, Any]) -> tuple[Any, ...]:
    """Kind of the reason and events of the one administration."""
    return rows(mapped(*resources), "EX", "EXADJ", "EXAEREF", EXSTDTC="2021-06-15")[0]


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (r.concept(NOT_TOLERATED), "ADVERSE EVENT"),
        (r.concept(text="Toxicity"), "ADVERSE EVENT"),
        (r.concept(text="Hypertension"), "ADVERSE EVENT"),
        (r.concept(("http://snomed.info/sct", "399307001", "")), "LOST TO FOLLOW-UP"),
        (r.concept(text="a bad day"), None),
    ],
)
def test_the_kind_of_a_status_reason(reason: dict[str, Any], kind: str | None) -> None:
    """Coded, in words, or as the term of an event; what no map knows has no kind."""
    assert ex(dose(statusReason=[reason])) == (kind, None)


def test_reason_reference() -> None:
    """An event directly or by the condition it resulted in; the disease that is treated is no event."""
    caused = event(resultingCondition=[{"reference": "Condition/nausea"}])
    by_condition = dose(reasonReference=[{"reference": "Condition/nausea"}])
    assert ex(caused, condition("nausea"), by_condition) == (None, "AdverseEvent/an-event")
    assert ex(condition("nausea"), by_condition) == (None, None)
    directly = dose(reasonReference=[{"reference": "https://server/fhir/AdverseEvent/an-event/_history/3"}])
    assert ex(event(), directly) == (None, "AdverseEvent/an-event")
    assert ex(directly) == (None, "AdverseEvent/an-event")  # it did not land, and was the reason all the same


def test_an_event_that_does_not_count_is_no_reason() -> None:
    """A potential event changed nothing."""
    directly = dose(reasonReference=[{"reference": "AdverseEvent/an-event"}])
    assert ex(event(actuality="potential"), directly) == (None, None)


def test_mitigating_action_that_names_the_administration() -> None:
    """The profile's item may be a reference."""
    item = {"url": "item", "valueReference": {"reference": "MedicationAdministration/a-dose"}}
    acting = event(extension=[{"url": f"{AEB}mitigating-action", "extension": [item]}])
    assert ex(acting, dose()) == (None, "AdverseEvent/an-event")


def test_every_action_is_kept() -> None:
    """Several items and the discontinuation: the gravest in AEACN, all in AEACNALL."""
    items = [
        {
            "url": f"{AEB}mitigating-action",
            "extension": [{"url": "item", "valueCodeableConcept": {"text": words}}],
        }
        for words in ("dose reduced", "drug interrupted")
    ]
    left = {"url": f"{AEB}caused-subject-to-discontinue-study", "valueBoolean": True}
    assert rows(mapped(event(extension=[*items, left])), "AE", "AEACN", "AEACNALL", AEDECOD="Nausea") == [
        ("DRUG WITHDRAWN", "DRUG INTERRUPTED;DOSE REDUCED;DRUG WITHDRAWN")
    ]


def test_a_criterion_that_is_not_present() -> None:
    """`criterionPresent` false makes no event serious; death among the criteria is a death."""

    def criterion(present: bool) -> dict[str, Any]:
        code = r.concept((r.NCIT, "C48275", "Death"))
        parts = [
            {"url": "criterionCode", "valueCodeableConcept": code},
            {"url": "criterionPresent", "valueBoolean": present},
        ]
        return {"url": f"{AEB}seriousness-criteria", "extension": parts}

    for present, expected in ((True, ("Y", "Y")), (False, (None, None))):
        made = event(extension=[criterion(present)])
        del made["seriousness"]
        assert rows(mapped(made), "AE", "AESER", "AESDTH", AEDECOD="Nausea") == [expected]


@pytest.mark.parametrize(
    ("coding", "settings", "expected"),
    [
        (None, {}, "Gastrointestinal disorders"),
        ("Hepatobiliary disorders", {}, "Hepatobiliary disorders"),
        ("Hepatobiliary disorders", {"Nausea": "General disorders"}, "General disorders"),
    ],
)
def test_organ_class(coding: str | None, settings: dict[str, str], expected: str) -> None:
    """The study's map, then what the data state, then CTCAE's category of the term."""
    made = event()
    if coding is not None:
        made["event"]["coding"] = [{"system": "https://www.meddra.org", "code": "1", "display": coding}]
    result = mapped(made, toxicity={"organ_classes": settings})
    assert rows(result, "AE", "AEBODSYS", AEDECOD="Nausea") == [(expected,)]


def test_a_term_without_a_class() -> None:
    """A term that no map knows has no class; it is never made up."""
    made = event(event={"text": "Something else"})
    assert rows(mapped(made), "AE", "AEBODSYS", AETERM="Something else") == [(None,)]


def _analysed(*resources: dict[str, Any]) -> Results:
    study = six_study()
    sdtm = mapped(*resources).datasets
    made = derive(sdtm, study, cutoff=dt.date(2022, 6, 30))
    return analyse({**sdtm, **made.datasets}, study, "2022-06-30")


def _counts(results: Results) -> dict[str, Any]:
    """Subjects by what was done, of the event's term and as the administrations say; without the zeros."""
    names = ("reduced", "interrupted", "stopped", "action_unknown")
    told = {name: results[f"toxicity.term.nausea.{name}.n"].value for name in names}
    kinds = ("reduced", "interrupted", "missed", "stopped")
    told |= {f"any {name}": results[f"toxicity.administration.{name}.n"].value for name in kinds}
    return {name: value for name, value in told.items() if value}


@pytest.mark.parametrize(
    ("resources", "changed"),
    [
        ([event()], {"action_unknown": 1}),
        (
            [
                event(resultingCondition=[{"reference": "Condition/nausea"}]),
                condition("nausea"),
                dose(reasonReference=[{"reference": "Condition/nausea"}]),
            ],
            {"interrupted": 1, "any interrupted": 1},
        ),
        (
            [event(), dose("stopped", reasonReference=[{"reference": "AdverseEvent/an-event"}])],
            {"stopped": 1, "any stopped": 1},
        ),
        (
            [event(), dose("stopped", statusReason=[r.concept(NOT_TOLERATED)])],
            {"action_unknown": 1, "any stopped": 1},
        ),
        ([event(), dose("on-hold")], {"action_unknown": 1}),
    ],
    ids=["not recorded", "by a condition", "by the event", "by the kind of reason", "same days only"],
)
def test_from_resources_to_the_overview(resources: list[dict[str, Any]], changed: dict[str, int]) -> None:
    """What the records say is counted, where they say it; days that fit are no reason."""
    assert _counts(_analysed(*resources)) == changed
