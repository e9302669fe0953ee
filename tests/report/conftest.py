"""Studies, datasets and results for the report's tests: one of six subjects by hand, one of 57 by formula."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fhir_adapter.accounting import Finding
from fhir_adapter.analysis.stage import analyse
from fhir_adapter.datasets import conform
from fhir_adapter.report.render import render_report
from fhir_adapter.results import Cell, Display, Result, Results, Row
from fhir_adapter.study import Study

START = pd.Timestamp("2020-01-06")
ACCOUNTING: dict[str, Any] = {
    "Patient": {"total": 65, "used": 65, "not_needed": {}, "quarantined": {}},
    "Observation": {
        "total": 2210,
        "used": 1290,
        "not_needed": {"no-view": 900, "after-cut-off": 12},
        "quarantined": {"valueQuantity.value is text": 8},
    },
    "AdverseEvent": {"total": 71, "used": 66, "not_needed": {"entered-in-error": 5}, "quarantined": {}},
}
FINDINGS = [
    Finding("lesion-without-identity", "a measurement that names no lesion", usubjid="S-01"),
    Finding("unknown-code", "no concept map knows the code", resource="Observation/9", detail="LOCAL|77"),
    Finding("unknown-code", "no concept map knows the code", resource="Observation/10", detail="LOCAL|78"),
]
MANIFEST: dict[str, Any] = {
    "run_id": "20261122T230000Z-1a2b",
    "started": "2026-11-22T23:00:00Z",
    "server": "http://hospital.invalid/fhir",
    "study_sha256": "9f" * 32,
    "landing_sequence": 4711,
    "versions": {"fhir-adapter": "0.1.0", "pandas": "2.3.3"},
}


@dataclass
class Case:
    """Everything that `render_report` is given."""

    study: Study
    results: Results
    datasets: dict[str, pd.DataFrame]
    accounting: dict[str, Any] = field(default_factory=lambda: dict(ACCOUNTING))
    findings: list[Finding] = field(default_factory=lambda: list(FINDINGS))
    manifest: dict[str, Any] = field(default_factory=lambda: dict(MANIFEST))
    flow: list[dict[str, Any]] = field(default_factory=list)
    template_dirs: list[Path] = field(default_factory=list)

    def render(self, folder: Path) -> Path:
        """Renders into a run folder."""
        return render_report(
            folder=folder, **{name: getattr(self, name) for name in self.__dataclass_fields__}
        )


def _study(**parts: Any) -> Study:
    return Study.model_validate(
        {
            "study": {
                "id": "example",
                "title": "An example of a report",
                "reference": "Example et al., 2024",
                "data_cutoff": "2022-07-31",
                "consent": {"policy": "waived", "reference": "IRB 1"},
                "synthetic": True,
            },
            "cohort": {"candidates": {"all_patients": True}},
            "treatment": {
                "drugs": [{"id": "a", "label": "Anlotinib", "concept": "ANLOTINIB", "dose": 12, "unit": "mg"}]
            },
            **parts,
        }
    )


@pytest.fixture
def small() -> Case:
    """Six subjects by hand: four with a bar, one without measurement, one with a hostile term and label."""
    study = _study(
        subgroups=[
            {
                "id": "type",
                "label": "Sarcoma type",
                "variable": "TYPE",
                "levels": ["L", "N"],
                "level_labels": {"L": "L-sarcoma", "N": "Non-L-sarcoma"},
            }
        ],
        endpoints=[
            {
                "id": "PFS",
                "label": "Progression-free survival",
                "kind": "PFS",
                "by": ["type"],
                "landmarks": [3],
            }
        ],
        report={
            "figures": [
                {
                    "id": "waterfall",
                    "kind": "waterfall",
                    "title": "Best change",
                    "by": "type",
                    "label_variable": "SUBTYPE",
                },
                {
                    "id": "pfs",
                    "kind": "kaplan_meier",
                    "title": "PFS by type",
                    "endpoint": "PFS",
                    "by": "type",
                },
                {"id": "swimmer", "kind": "swimmer", "title": "Course of each subject", "by": "type"},
            ]
        },
    )
    adsl = conform(
        "ADSL",
        [
            {
                "STUDYID": "example",
                "USUBJID": f"S-0{i}",
                "ASEQ": 1,
                "BASEDT": START,
                "TRTSDT": START + pd.Timedelta(days=1),
                "TRTEDT": START + pd.Timedelta(days=60 * i),
                "FUPDUR": 100 * i,
                "DTHFL": "Y" if i == 1 else None,
                "DTHDT": START + pd.Timedelta(days=100) if i == 1 else None,
                "NASSESS": 0 if i == 5 else 3,
                "BOR": bor,
                "BESTPCHG": change,
                "ANALFL": "Y",
                "FASFL": "Y",
                "SAFFL": "Y",
                "TYPE": kind,
                "SUBTYPE": subtype,
            }
            for i, (bor, change, kind, subtype) in enumerate(
                [
                    ("PD", 31.2, "L", "Well-differentiated <b>liposarcoma</b>"),
                    ("SD", -12.5, "L", "Leiomyosarcoma"),
                    ("PR", -30.0, "N", "UPS"),
                    ("CR", -100.0, "N", "DSRCT"),
                    ("NE", None, "N", None),
                    ("SD", 0.0, "L", "$x^2$"),
                ],
                start=1,
            )
        ],
    )
    adtte = conform(
        "ADTTE",
        [
            {
                "STUDYID": "example",
                "USUBJID": f"S-0{i}",
                "PARAMCD": "PFS",
                "PARAM": "PFS",
                "AVAL": 60 * i,
                "CNSR": i % 2,
                "ADT": START + pd.Timedelta(days=60 * i),
                "STARTDT": START,
            }
            for i in range(1, 7)
        ],
    )
    adrs = conform(
        "ADRS",
        [
            {
                "STUDYID": "example",
                "USUBJID": "S-03",
                "PARAMCD": "OVR",
                "AVALC": "PR",
                "ANL01FL": "Y",
                "ADT": START + pd.Timedelta(days=63),
            },
            {
                "STUDYID": "example",
                "USUBJID": "S-01",
                "PARAMCD": "OVR",
                "AVALC": "PD",
                "ANL01FL": "Y",
                "ADT": START + pd.Timedelta(days=60),
            },
        ],
    )
    results = Results(study="example", data_cutoff="2022-07-31")
    for result in (
        Result(id="response.total.orr.n", value=2, rule="n_subjects", unit="n", digits=0),
        Result(id="response.total.orr.pct", value=100 * 2 / 6, rule="percent_subjects", unit="%", digits=1),
        Result(id="response.total.orr.lower", value=4.327, rule="interval_bound", unit="%", digits=1),
        Result(id="response.total.orr.upper", value=77.722, rule="interval_bound", unit="%", digits=1),
        Result(
            id="survival.pfs.median",
            value=None,
            rule="km_median",
            unit="months",
            digits=1,
            reason="the survival function does not reach 0.5",
        ),
        Result(
            id="survival.pfs.by.type.logrank.p",
            value=0.02564,
            rule="test:log_rank",
            unit="p",
            digits=4,
            method="log-rank test",
        ),
    ):
        results.add(result)
    results.displays += [
        Display(
            "toxicity_terms",
            "Adverse events",
            "toxicity",
            ("Total, n (%)",),
            (
                Row(
                    '<script>alert(1)</script> & "fever"',
                    (Cell("n_pct", ("response.total.orr.n", "response.total.orr.pct")),),
                ),
            ),
            stub="Term",
        ),
        Display(
            "response_total",
            "Response",
            "response",
            ("ORR, % (95% CI)", "P"),
            (
                Row("All"),
                Row(
                    "Total",
                    (
                        Cell(
                            "estimate_ci", tuple(f"response.total.orr.{x}" for x in ("pct", "lower", "upper"))
                        ),
                        Cell("p", ("survival.pfs.by.type.logrank.p",)),
                    ),
                    level=1,
                ),
            ),
            stub="Group",
        ),
        Display(
            "published",
            "Published against computed",
            "published",
            ("Published", "Computed", "Comparison"),
            (
                Row(
                    "response.total.orr.pct",
                    (
                        Cell("text", text="33.3"),
                        Cell("value", ("response.total.orr.pct",)),
                        Cell("text", text="✓"),
                    ),
                ),
                Row(
                    "response.total.orr.lower",
                    (
                        Cell("text", text="4.4"),
                        Cell("value", ("response.total.orr.lower",)),
                        Cell("text", text="≠ a misprint"),
                    ),
                ),
            ),
            stub="Result",
        ),
    ]
    return Case(study, results, {"ADSL": adsl, "ADTTE": adtte, "ADRS": adrs})


_TYPES = (
    ("Liposarcoma", "DDLPS", "L"),
    ("Liposarcoma", "WDLPS", "L"),
    ("Leiomyosarcoma", "LMS", "L"),
    ("Rhabdomyosarcoma", "RMS", "N"),
    ("Fibrosarcoma", "FS", "N"),
    ("Synovial sarcoma", "SS", "N"),
)
_TERMS = (
    "Hypertension",
    "Hypothyroidism",
    "Palmar-plantar erythrodysesthesia syndrome",
    "Mucositis oral",
    "Proteinuria",
    "Fatigue",
    "Hoarseness",
)


def _many(number: int) -> dict[str, pd.DataFrame]:
    """Subjects whose values follow from their position by modular arithmetic; nothing is drawn at random."""
    adsl, adtte, adrs, adae = [], [], [], []
    for i in range(number + 8):
        name, base = f"EX-{i + 1:03}", START + pd.Timedelta(days=(i * 37) % 700)
        histology, subtype, kind = _TYPES[(i * 5 + i // 7) % 6]
        excluded = None if i < number else ("one-cycle" if i < number + 5 else "lost")
        change = ((i * 53) % 131) - 75.0 + (12 if kind == "L" else -14)
        change = max(change, -100.0) if i % 29 else None
        bor = (
            "NE"
            if change is None
            else "CR"
            if change <= -95
            else "PR"
            if change <= -30
            else "PD"
            if change >= 20
            else "SD"
        )
        follow = 90 + (i * 211) % 830
        progressed = bor == "PD" or i % 5 < 2
        pfs = min(follow, 40 + (i * 97) % (260 if kind == "L" else 600))
        died = progressed and i % 4 == 0
        adsl.append(
            {
                "STUDYID": "example",
                "USUBJID": name,
                "ASEQ": 1,
                "AGE": 20 + (i * 17) % 60,
                "SEX": "F" if i % 3 == 0 else "M",
                "TRTSDT": base + pd.Timedelta(days=1),
                "TRTEDT": base + pd.Timedelta(days=min(follow, 21 * (3 + (i * 7) % 25))),
                "BASEDT": base,
                "DTHFL": "Y" if died else None,
                "DTHDT": base + pd.Timedelta(days=follow) if died else None,
                "FUPDUR": follow,
                "CYCLES": 3 + (i * 7) % 25,
                "NASSESS": 3,
                "EXCLID": excluded,
                "ANALFL": None if excluded else "Y",
                "FASFL": None if excluded else "Y",
                "SAFFL": None if excluded else "Y",
                "BOR": bor,
                "RSPFL": "Y" if bor in ("CR", "PR") else None,
                "DCFL": "Y" if bor in ("CR", "PR", "SD") else None,
                "BESTPCHG": change,
                "HISTOLOGY": histology,
                "SUBTYPE": subtype,
                "TYPE": kind,
                "GRADE": f"G{1 + (i * 3) % 4 % 3}",
            }
        )
        for code, days, event in (("PFS", pfs, progressed), ("OS", follow, died)):
            adtte.append(
                {
                    "STUDYID": "example",
                    "USUBJID": name,
                    "ASEQ": 1,
                    "PARAMCD": code,
                    "PARAM": code,
                    "STARTDT": base,
                    "ADT": base + pd.Timedelta(days=days),
                    "AVAL": days,
                    "CNSR": 0 if event else 1,
                    "EVNTDESC": ("Progression" if code == "PFS" else "Death") if event else None,
                    "CNSDTDSC": None
                    if event
                    else "Last adequate assessment"
                    if code == "PFS"
                    else "Last contact",
                }
            )
        for value, day in ((bor, 62), ("PD" if progressed else None, pfs)):
            if value in ("CR", "PR", "PD"):
                adrs.append(
                    {
                        "STUDYID": "example",
                        "USUBJID": name,
                        "ASEQ": len(adrs) + 1,
                        "PARAMCD": "OVR",
                        "AVALC": value,
                        "ADT": base + pd.Timedelta(days=max(day, 62)),
                        "ANL01FL": "Y",
                    }
                )
        adae += [
            {
                "STUDYID": "example",
                "USUBJID": name,
                "ASEQ": k + 1,
                "AEDECOD": _TERMS[(i + k * k) % 7],
                "AETERM": "x",
                "ATOXGR": 1 + (i + k) % 3,
                "AREL": "Y" if k < 2 else "N",
                "TRTEMFL": "Y",
                "AOCC03FL": "Y" if k < 2 else None,
                "ASTDT": base + pd.Timedelta(days=20 + k),
            }
            for k in range((i * 3) % 4)
        ]
    frames = {"ADSL": adsl, "ADTTE": adtte, "ADRS": adrs, "ADAE": adae}
    datasets = {name: conform(name, rows) for name, rows in frames.items()}
    return datasets | {name: conform(name, []) for name in ("ADTR", "ADEX")}


@pytest.fixture
def large() -> Callable[[int], Case]:
    """A study with every kind of table and figure, on any number of subjects, through the analysis."""
    return large_case


def large_case(number: int = 57) -> Case:
    """As the fixture `large`."""
    study = _study(
        cohort={
            "candidates": {"all_patients": True},
            "treated_label": "Treated with the combination",
            "exclusions": [
                {
                    "id": "one-cycle",
                    "label": "Only one cycle of treatment",
                    "condition": {"variable": "CYCLES", "op": "lt", "value": 2},
                },
                {
                    "id": "lost",
                    "label": "Lost to follow-up",
                    "condition": {"variable": "CYCLES", "op": "lt", "value": 2},
                },
            ],
        },
        baseline={
            "table": [
                {"variable": "SEX", "id": "sex", "label": "Sex"},
                {"variable": "AGE", "id": "age", "label": "Age (years)", "show": ["median_range"]},
                {"variable": "HISTOLOGY", "id": "histology", "label": "Histology"},
                {"variable": "GRADE", "id": "grade", "label": "FNCLCC grade"},
            ]
        },
        subgroups=[
            {
                "id": "type",
                "label": "Sarcoma type",
                "variable": "TYPE",
                "levels": ["L", "N"],
                "orr_test": "fisher_exact",
                "level_labels": {"L": "L-sarcoma", "N": "Non-L-sarcoma"},
            },
            {
                "id": "grade",
                "label": "FNCLCC grade",
                "variable": "GRADE",
                "levels": ["G1", "G2", "G3"],
                "orr_test": "linear_by_linear",
            },
        ],
        response_tables=[
            {"id": "by_type", "title": "Efficacy by sarcoma type and grade", "subgroups": ["type", "grade"]}
        ],
        endpoints=[
            {
                "id": "PFS",
                "label": "Progression-free survival",
                "kind": "PFS",
                "by": ["type", "grade"],
                "landmarks": [3, 6],
            },
            {"id": "OS", "label": "Overall survival", "kind": "OS", "landmarks": [12]},
        ],
        summaries=[
            {
                "id": "cycles",
                "label": "Cycles of treatment",
                "variable": "CYCLES",
                "show": ["median_range"],
                "digits": 0,
            },
            {
                "id": "nine",
                "label": "Nine cycles or more",
                "condition": {"variable": "CYCLES", "op": "ge", "value": 9},
            },
        ],
        models=[
            {
                "id": "pfs-uni",
                "label": "Progression-free survival, univariate",
                "endpoint": "PFS",
                "univariate": True,
                "covariates": [
                    {"variable": "AGE", "label": "Age (years)"},
                    {"variable": "TYPE", "label": "Sarcoma type", "reference": "L"},
                    {"variable": "GRADE", "label": "FNCLCC grade", "reference": "G1"},
                ],
            },
            {
                "id": "pfs-multi",
                "label": "Progression-free survival, multivariate",
                "endpoint": "PFS",
                "covariates": [
                    {"variable": "TYPE", "label": "Sarcoma type", "reference": "L"},
                    {"variable": "GRADE", "label": "FNCLCC grade", "reference": "G1"},
                ],
            },
        ],
        report={
            "figures": [
                {
                    "id": "waterfall",
                    "kind": "waterfall",
                    "title": "Best percentage change of the target lesions",
                    "by": "type",
                    "label_variable": "SUBTYPE",
                },
                {
                    "id": "pfs-type",
                    "kind": "kaplan_meier",
                    "title": "Progression-free survival by sarcoma type",
                    "endpoint": "PFS",
                    "by": "type",
                },
                {
                    "id": "pfs-grade",
                    "kind": "kaplan_meier",
                    "title": "Progression-free survival by FNCLCC grade",
                    "endpoint": "PFS",
                    "by": "grade",
                },
                {"id": "os", "kind": "kaplan_meier", "title": "Overall survival", "endpoint": "OS"},
                {"id": "swimmer", "kind": "swimmer", "title": "Course of each subject", "by": "type"},
                {
                    "id": "forest",
                    "kind": "forest",
                    "title": "Hazard ratios for progression or death",
                    "endpoint": "PFS",
                },
                {"id": "flow", "kind": "flow", "title": "Flow of subjects"},
            ],
            "published": [
                {"result": "response.total.n", "value": number, "where": "Table 3"},
                {"result": "response.total.orr.pct", "value": 26.3, "where": "Table 3"},
                {"result": "survival.pfs.median", "value": 9.1, "where": "Text"},
                {"result": "survival.os.median", "value": None, "where": "Text"},
            ],
            "known_differences": [
                {
                    "result": "response.total.orr.pct",
                    "reason": "The example's subjects are not those of the paper.",
                }
            ],
        },
    )
    datasets = _many(number)
    return Case(study, analyse(datasets, study, "2022-07-31"), datasets)
