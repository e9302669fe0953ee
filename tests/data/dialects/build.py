"""Writes examples.json: for each way of writing each kind of fact, the resource that bears it, of one subject.

Run it after a change: `python tests/data/dialects/build.py`. A test compares what it makes with what is committed.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from fhir_adapter.demo.synthetic.cohort import DEFAULT_STUDY
from fhir_adapter.demo.synthetic.dialects import DIALECTS, Dialect, choices
from fhir_adapter.demo.synthetic.facts import (
    Dose,
    Event,
    Finding,
    Lesion,
    Scan,
    Size,
    Statement,
    Subject,
)
from fhir_adapter.demo.synthetic.stream import cohort_resources

HERE = Path(__file__).parent
STUDY = replace(DEFAULT_STUDY, arms=("Arm A", "Arm B"))
#: One of each kind of fact.
SUBJECT = Subject(
    key="syn-1", usubjid="SYN-1", sex="female", birth_date="1960-02-03", consented="2021-04-01",
    enrolled="2021-04-02", left=None, participation="on-study", arm="Arm A", death=None, onset="2020-11-05",
    histology="8890/3", grade=2, ecog=1, metastases=(), surgery=None, prior=(),
    lesions=(Lesion("T02", "TARGET", "Lymph node"), Lesion("NT01", "NON-TARGET", "Peritoneum")),
    scans=(Scan("2021-04-05", "Baseline"),), sizes=(Size(0, "T02", 18),), findings=(Finding(0, "NT01", "present"),),
    responses=(Statement(0, "PR"),), doses=(Dose("anlotinib", "oral", "2021-04-07", "2021-04-20", 12),), visits=(),
    events=(Event("Nausea", "2021-06-01", "2021-06-11", 3, "possible", "anlotinib", "resolved"),),
)  # fmt: skip
#: Kind of fact → id of the resource that bears it.
BEARER = {
    "response": "syn-1-response-0", "question": "syn-1-response-0", "shape": "syn-1-size-0", "unit": "syn-1-size-0",
    "role": "syn-1-size-0", "identity": "syn-1-size-0", "visit": "syn-1-size-0", "state": "syn-1-state-0",
    "drug": "syn-1-dose-0", "ecog": "syn-1-ecog", "grading": "syn-1-fnclcc", "histology": "syn-1-primary",
    "reference": "syn-1-rsub",
}  # fmt: skip
EVENT = "syn-1-ae-0"


def dialect(kind: str, way: str) -> Dialect:
    """The first dialect with another way of writing one kind of fact."""
    return replace(DIALECTS["mcode"], **{kind: way})


def examples() -> dict[str, dict[str, Any]]:
    """Kind of fact → way → the resource that bears it."""
    found: dict[str, dict[str, Any]] = {}
    for kind, ways in choices().items():
        for way in ways:
            made = cohort_resources([SUBJECT], study=STUDY, dialect=dialect(kind, way))
            bearer = BEARER.get(kind, EVENT)
            found.setdefault(kind, {})[way] = next(item for item in made if item["id"] == bearer)
    return found


def text(value: Any) -> str:
    """JSON as it is committed."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    (HERE / "examples.json").write_text(text(examples()), encoding="utf-8")
