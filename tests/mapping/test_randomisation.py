"""The date of randomisation stands where the study file says, and nowhere else."""

from __future__ import annotations

from functools import partial
from typing import Any

import mapping_support as support
import pytest
from mapping_support import rows
from pydantic import ValidationError

from fhir_adapter.demo import resources as r
from fhir_adapter.study import Randomisation

mapped = partial(support.mapped, patients=("six-pr",))

CODE = "urn:trial|RAND"
CODED = {"coding": [{"system": "urn:other", "code": "X"}, {"system": "urn:trial", "code": "RAND"}]}
URL = "https://trial.example/randomised-on"


def _of(kind: str, id_: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": kind,
        "id": id_,
        "subject": {"reference": "Patient/six-pr"},
        "status": "final",
        **more,
    }


def _enrolled(**more: Any) -> dict[str, Any]:
    subject = r.research_subject(
        "six-pr-subject",
        patient="Patient/six-pr",
        study="ResearchStudy/six-study",
        identifier=("https://fhir-adapter.org/six/subject", "SIX-PR"),
        start="2021-01-02",
    )
    return subject | more


def _record(date: str, id_: str = "rand", **code: Any) -> dict[str, Any]:
    return _of("Observation", id_, code=code or CODED, effectiveDateTime=date)


CASES: dict[str, tuple[dict[str, Any], list[dict[str, Any]], str]] = {
    "period of the participation": ({"source": "research_subject"}, [_enrolled()], "2021-01-02"),
    "extension": (
        {"source": "extension", "url": URL},
        [
            _enrolled(
                extension=[
                    {"url": "urn:x", "valueDate": "2020-01-01"},
                    {"url": URL, "valueDate": "2021-01-03"},
                ]
            )
        ],
        "2021-01-03",
    ),
    "observation": ({"source": "observation", "codes": [CODE]}, [_record("2021-01-04")], "2021-01-04"),
    "value of an observation": (
        {"source": "observation", "codes": [CODE]},
        [_record("2021-02-01") | {"valueDateTime": "2021-01-05"}],
        "2021-01-05",
    ),
    "procedure": (
        {"source": "procedure", "codes": ["urn:no|RAND", CODE]},
        [
            _of("Procedure", "rand", code=CODED, performedPeriod={"start": "2021-01-06"})
            | {"status": "completed"}
        ],
        "2021-01-06",
    ),
    "encounter": (
        {"source": "encounter", "codes": [CODE]},
        [
            _of("Encounter", "rand", type=[CODED], period={"start": "2021-01-07T10:00:00+02:00"})
            | {"status": "finished", "class": {"code": "AMB"}}
        ],
        "2021-01-07T10:00:00+02:00",
    ),
    "the earliest of two": (
        {"source": "observation", "codes": [CODE]},
        [_record("2021-01-09"), _record("2021-01-08", "rand-2")],
        "2021-01-08",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_source(name: str) -> None:
    """RANDDTC as written, a row RANDOMIZED of DS, and the record among the sources of DM."""
    source, more, expected = CASES[name]
    result = mapped(*more, randomisation=source)
    assert rows(result, "DM", "RANDDTC") == [(expected,)]
    assert (expected,) in rows(result, "DS", "DSSTDTC", DSDECOD="RANDOMIZED")
    if source["source"] in {"observation", "procedure", "encounter"}:
        assert "/rand" in rows(result, "DM", "SRCREF")[0][0]
        assert {item.outcome for item in result.dispositions if item.id.startswith("rand")} == {"used"}


def test_several_dates_are_a_finding() -> None:
    """The earliest counts and the subject is named."""
    more = [_record("2021-01-09"), _record("2021-01-08", "rand-2")]
    result = mapped(*more, randomisation={"source": "observation", "codes": [CODE]})
    found = [item for item in result.findings if item.code == "several-randomisations"]
    assert [item.resource for item in found] == ["Observation/rand-2"]


def test_other_records_do_not_randomise() -> None:
    """Another code does not; nor does any record without the section; a record without a date is a finding."""
    section = {"source": "observation", "codes": [CODE]}
    other = _record("2021-01-04", coding=[{"system": "urn:trial", "code": "OTHER"}])
    assert rows(mapped(other, randomisation=section), "DM", "RANDDTC") == [(None,)]
    assert rows(mapped(_record("2021-01-04")), "DM", "RANDDTC") == [(None,)]
    undated = _of("Observation", "rand", code=CODED)
    result = mapped(undated, randomisation=section)
    assert rows(result, "DM", "RANDDTC") == [(None,)]
    assert "randomisation-without-date" in {item.code for item in result.findings}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"source": "observation"}, "needs `codes`"),
        ({"source": "extension"}, "needs the `url`"),
        ({"source": "research_subject", "codes": ["a|b"]}, "has no `codes`"),
        ({"source": "encounter", "codes": ["a|b"], "url": "urn:x"}, "has no `url`"),
        ({"source": "encounter", "codes": ["no system"]}, "pattern"),
    ],
)
def test_an_incomplete_section_is_refused(section: dict[str, Any], message: str) -> None:
    """A source without what it needs, or with what it has no use for."""
    with pytest.raises(ValidationError, match=message):
        Randomisation.model_validate(section)
