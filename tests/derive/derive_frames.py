"""Small SDTM-like frames for tests: only what a test says is in them."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pandas as pd

from fhir_adapter.datasets import conform, empty, metadata
from fhir_adapter.derive.stage import Derived, derive
from fhir_adapter.study import Study

NAMES = [name for name, dataset in metadata().items() if dataset.model == "SDTM"]
_EMPTY = {name: empty(name) for name in NAMES}


def sdtm(**rows: list[dict[str, Any]]) -> dict[str, pd.DataFrame]:
    """All SDTM-like datasets; rows get STUDYID, DOMAIN and the sequence number that they do not give."""
    frames = {}
    for name in NAMES:
        given = rows.get(name, [])
        if not given:
            frames[name] = _EMPTY[name]
            continue
        seen: dict[str, int] = {}
        table = []
        for row in given:
            subject = row["USUBJID"]
            seen[subject] = seen.get(subject, 0) + 1
            table.append({"STUDYID": "X", "DOMAIN": name, f"{name}SEQ": seen[subject]} | row)
        frames[name] = conform(name, table)
    return frames


def subject(usubjid: str = "S1", **more: Any) -> dict[str, Any]:
    """A row of DM."""
    return {"USUBJID": usubjid, "SUBJID": usubjid, "BRTHDTC": "1960-05-01", "SEX": "F"} | more


def dose(day: str, usubjid: str = "S1", **more: Any) -> dict[str, Any]:
    """A row of EX: drug A, given."""
    return {
        "USUBJID": usubjid,
        "EXTRT": "drug-a",
        "EXDOSE": 10.0,
        "EXDOSU": "mg",
        "EXOCCUR": "Y",
        "EXSTDTC": day,
    } | more


def lesion(link: str, role: str = "TARGET", usubjid: str = "S1", **more: Any) -> dict[str, Any]:
    """A row of TU."""
    return {"USUBJID": usubjid, "TULNKID": link, "TUSTRESC": role} | more


def size(link: str, day: str, mm: float | None, usubjid: str = "S1", **more: Any) -> dict[str, Any]:
    """A row of TR with a longest diameter."""
    row = {
        "USUBJID": usubjid,
        "TRLNKID": link,
        "TRTESTCD": "LDIAM",
        "TRSTRESN": mm,
        "TRSTRESU": "mm",
        "TRDTC": day,
    }
    return row | more


def state(link: str, day: str, text: str, usubjid: str = "S1", **more: Any) -> dict[str, Any]:
    """A row of TR with a tumour state."""
    return {
        "USUBJID": usubjid,
        "TRLNKID": link,
        "TRTESTCD": "TUMSTATE",
        "TRSTRESC": text,
        "TRDTC": day,
    } | more


def study(**more: Any) -> Study:
    """A study with one drug, PFS and OS."""
    tree: dict[str, Any] = {
        "study": {
            "id": "x",
            "title": "X",
            "data_cutoff": "2022-06-30",
            "consent": {"policy": "waived", "reference": "test"},
        },
        "cohort": {"candidates": {"all_patients": True}},
        "treatment": {"drugs": [{"id": "a", "label": "A", "concept": "drug-a"}]},
        "endpoints": [
            {"id": "PFS", "label": "PFS", "kind": "PFS"},
            {"id": "OS", "label": "OS", "kind": "OS"},
        ],
    }
    return Study.model_validate(tree | more)


def row(frame: pd.DataFrame, **equal: Any) -> dict[str, Any]:
    """The one row that has these values."""
    for name, value in equal.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1, f"{len(frame)} rows"
    return dict(frame.iloc[0])


def derived(
    *, study_file: Study | None = None, cutoff: str = "2022-06-30", **rows: list[dict[str, Any]]
) -> Derived:
    """Derives from the rows of the datasets."""
    return derive(sdtm(**rows), study_file or study(), cutoff=dt.date.fromisoformat(cutoff))


def codes(result: Derived) -> set[str]:
    """Codes of the findings."""
    return {finding.code for finding in result.findings}


def day(value: object) -> str | None:
    """A date as ISO text, None for a missing one."""
    return None if pd.isna(value) else pd.Timestamp(str(value)).date().isoformat()  # type: ignore[call-overload]


#: One subject with 100 mm at baseline (2021-01-01) and first dose a day later, for tests that add visits.
BASE: dict[str, list[dict[str, Any]]] = {
    "DM": [subject()],
    "EX": [dose("2021-01-02")],
    "TU": [lesion("T1"), lesion("T2")],
}


def sums(*visits: tuple[str, float | None], usubjid: str = "S1") -> list[dict[str, Any]]:
    """Rows of TR of two targets, half the sum each.

    100 mm on 2021-01-01, then the visits given (None: T2 missing).
    """
    table = []
    for at, total in (("2021-01-01", 100.0), *visits):
        half = 50.0 if total is None else total / 2
        table += [size("T1", at, half, usubjid), size("T2", at, None if total is None else half, usubjid)]
    return table
