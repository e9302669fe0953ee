"""ADEX: exposure by drug and over all drugs; and the dated rows of exposure that other datasets start from."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from fhir_adapter.accounting import Finding
from fhir_adapter.derive.dates import impute_dates, read_dates
from fhir_adapter.derive.numbering import number
from fhir_adapter.lineage import Link
from fhir_adapter.study import Study

__all__ = ["GIVEN", "adex_lineage", "count_cycles", "exposure_by_drug", "read_exposure"]

#: EXOCCUR of records that are exposure: given, and stopped (rules.md, Which resources count).
GIVEN: Final = ("Y", "S")

_PARAM: Final = {
    "CYCLES": "Cycles given",
    "DOSES": "Administrations given",
    "TDOSE": "Total dose recorded",
    "REDUCT": "Dose reductions",
    "INTERR": "Interruptions",
    "MISSED": "Missed administrations",
    "STOPFL": "Stopped (Y or N)",
    "STOPAE": "Stopped because of an adverse event (Y or N)",
    "STOPRSN": "Reason of the stop",
    "DURD": "Duration of treatment (days)",
}


def read_exposure(
    ex: pd.DataFrame, study: Study, birth: pd.Series[Any], alive: pd.Series[Any], cutoff: dt.date
) -> tuple[pd.DataFrame, list[Finding]]:
    """Rows of EX of the study's drugs, with dates.

    Args:
        ex: EX up to the cut-off.
        study: drugs and imputation.
        birth: on USUBJID, first possible day of birth.
        alive: on USUBJID, last known alive.
        cutoff: an administration that goes on beyond it ends on it.

    Returns:
        EX with ASTDT, AENDT (datetime64; the start where there is no end), IS_GIVEN (bool); and the findings:
        rows without a date, of drugs that the study does not name, doses before birth.
    """
    findings: list[Finding] = []
    drugs = [drug.concept for drug in study.treatment.drugs]
    others = ~ex["EXTRT"].isin(drugs)
    if others.any():
        findings.append(
            Finding(
                "not-a-study-drug",
                f"{int(others.sum())} administrations are of a drug that the study file does not name",
                "derive",
                detail=", ".join(sorted(set(ex.loc[others, "EXTRT"].dropna().astype(str)))),
            )
        )
    rows = ex[~others].copy()
    subject = rows["USUBJID"]
    start = read_dates(rows["EXSTDTC"])
    rows["IS_GIVEN"] = rows["EXOCCUR"].isin(GIVEN)
    known = start["FIRST"].where((start["PRECISION"] == "D") & rows["IS_GIVEN"])
    first_dose = subject.map(known.groupby(subject).min())
    bounds = {"lower": (subject.map(birth), first_dose), "upper": (subject.map(alive),)}
    rows["ASTDT"] = impute_dates(start, study.imputation.dose, **bounds)["DATE"]
    end = read_dates(rows["EXENDTC"])
    end_date = impute_dates(end, study.imputation.dose, lower=(rows["ASTDT"],), upper=(subject.map(alive),))[
        "DATE"
    ]
    end_date = end_date.mask(end_date > pd.Timestamp(cutoff), pd.Timestamp(cutoff))
    rows["AENDT"] = end_date.fillna(rows["ASTDT"])
    undated = rows["IS_GIVEN"] & rows["ASTDT"].isna()
    for name, rows_ in rows[undated].groupby("USUBJID").size().items():
        text = "a dose has no complete date and the study does not impute it: it does not count"
        findings.append(
            Finding("dose-without-date", text, "derive", usubjid=str(name), detail=f"{rows_} rows")
        )
    early = rows["ASTDT"] < subject.map(birth)
    findings += [
        Finding("dose-before-birth", "a dose is dated before birth", "derive", usubjid=name)
        for name in sorted(set(rows.loc[early, "USUBJID"]))
    ]
    reverse = end_date < rows["ASTDT"]
    findings += [
        Finding("dose-ends-before-start", "an administration ends before it starts", "derive", usubjid=name)
        for name in sorted(set(rows.loc[reverse, "USUBJID"]))
    ]
    rows["AENDT"] = rows["AENDT"].where(~reverse, rows["ASTDT"])
    return rows.reset_index(drop=True), findings


def count_cycles(start: pd.Series[Any], end: pd.Series[Any], cycle_length_days: int) -> int:
    """Number of cycles in the administrations of one subject.

    A cycle begins with the first dose that comes at least three quarters of a cycle's length after the
    beginning of the cycle before: infusions of one day, courses of tablets (14 days of 21) recorded as one or
    as daily records, and doses on days 1, 8 and 15 all count once per cycle, a delayed cycle too. One record
    that goes on for longer than a cycle holds a further cycle for each whole cycle's length before its end.

    Args:
        start: first days of the administrations given.
        end: their last days.
        cycle_length_days: planned length of a cycle.
    """
    days: npt.NDArray[np.int64] = start.to_numpy().astype("datetime64[D]").astype(np.int64)
    ends: npt.NDArray[np.int64] = end.to_numpy().astype("datetime64[D]").astype(np.int64)
    begins = sorted(
        {
            day
            for first, last in zip(days.tolist(), ends.tolist(), strict=True)
            for day in range(first, max(last, first + 1), cycle_length_days)
        }
    )
    cycles, opened = 0, -(10**9)
    for day in begins:
        if 4 * (day - opened) >= 3 * cycle_length_days:
            cycles, opened = cycles + 1, day
    return cycles


def _reductions(doses: pd.Series[Any]) -> int:
    """Number of times a dose is lower than the one before it and than the first one (doses in order of date)."""
    values = doses.dropna().to_numpy(dtype=np.float64)
    if len(values) < 2:
        return 0
    return int(np.count_nonzero((values[1:] < values[:-1]) & (values[1:] < values[0])))


def _parameters(
    rows: pd.DataFrame, cycle_length_days: int, *, of_one_drug: bool
) -> dict[str, float | str | None]:
    """The parameters of one subject's rows, of one drug or of all."""
    given = rows[rows["IS_GIVEN"] & rows["ASTDT"].notna()].sort_values(["ASTDT", "EXSEQ"], kind="stable")
    stops = rows[rows["EXOCCUR"] == "S"].sort_values(["ASTDT", "EXSEQ"], kind="stable")
    reasons = [str(reason) for reason in stops["EXREASND"].dropna().unique()]
    values: dict[str, float | str | None] = {
        "CYCLES": count_cycles(given["ASTDT"], given["AENDT"], cycle_length_days),
        "DOSES": len(given),
        "REDUCT": sum(
            _reductions(drug["EXDOSE"])
            for _, drug in given.groupby(["EXTRT", "EXDOSU"], dropna=False, sort=True)
        ),
        "INTERR": int((rows["EXOCCUR"] == "H").sum()),
        "MISSED": int((rows["EXOCCUR"] == "N").sum()),
        "STOPFL": "Y" if len(stops) else "N",
        "STOPAE": "Y" if stops["EXAEREF"].notna().any() else "N",
        "STOPRSN": "; ".join(reasons) or None,
    }
    # A sum over different drugs or units says nothing.
    if of_one_drug and given["EXDOSE"].notna().any() and given["EXDOSU"].nunique() <= 1:
        values["TDOSE"] = float(given["EXDOSE"].sum())
    if len(given):
        values["DURD"] = int((given["AENDT"].max() - given["ASTDT"].min()).days) + 1
    return values


def exposure_by_drug(exposure: pd.DataFrame, study: Study, study_id: pd.Series[Any]) -> pd.DataFrame:
    """Rows of ADEX with ASEQ: every parameter for each drug of a subject, and for all drugs together (EXTRT
    null).

    CYCLES over all drugs are those of `treatment.cycles_from` if the study names one. Y and N stand in AVALC,
    with AVAL 1 and 0.

    Args:
        exposure: rows of `read_exposure`.
        study: treatment.
        study_id: on USUBJID, STUDYID.
    """
    length = study.treatment.cycle_length_days
    source = next((d.concept for d in study.treatment.drugs if d.id == study.treatment.cycles_from), None)
    records: list[dict[str, Any]] = []
    for subject, rows in exposure.groupby("USUBJID", sort=True):
        by_drug = {
            str(drug): _parameters(part, length, of_one_drug=True) for drug, part in rows.groupby("EXTRT")
        }
        everything = _parameters(rows, length, of_one_drug=False)
        if source is not None:
            everything["CYCLES"] = by_drug[source]["CYCLES"] if source in by_drug else 0
        for drug, values in [*by_drug.items(), (None, everything)]:
            for code, value in values.items():
                if value is None:
                    continue
                is_text = isinstance(value, str)
                records.append(
                    {
                        "STUDYID": study_id[subject], "USUBJID": subject, "PARAMCD": code, "PARAM": _PARAM[code],
                        "EXTRT": drug, "SRCDOM": "EX",
                        "AVAL": float(value == "Y") if is_text and code != "STOPRSN" else np.nan if is_text else value,
                        "AVALC": value if is_text else None,
                    }
                )  # fmt: skip
    columns = ["STUDYID", "USUBJID", "PARAMCD", "PARAM", "EXTRT", "SRCDOM", "AVAL", "AVALC"]
    return number("ADEX", pd.DataFrame(records, columns=columns).astype({"AVAL": "float64"}))


def adex_lineage(adex: pd.DataFrame, exposure: pd.DataFrame) -> list[Link]:
    """Links from each row of ADEX to the administrations it was made from."""
    of_kind = {"INTERR": ("H",), "MISSED": ("N",), "STOPFL": ("S",), "STOPAE": ("S",), "STOPRSN": ("S",)}
    links: list[Link] = []
    seqs: dict[tuple[str, str], list[tuple[str | None, int]]] = {}
    for subject, drug, occurrence, seq in exposure[["USUBJID", "EXTRT", "EXOCCUR", "EXSEQ"]].itertuples(
        index=False
    ):
        seqs.setdefault((subject, occurrence), []).append((drug, int(seq)))
    for subject, code, drug, seq in adex[["USUBJID", "PARAMCD", "EXTRT", "ASEQ"]].itertuples(index=False):
        for occurrence in of_kind.get(code, GIVEN):
            links += [
                (subject, "ADEX", int(seq), "EX", parent, "source")
                for name, parent in seqs.get((subject, occurrence), [])
                if drug is None or pd.isna(drug) or name == drug
            ]
    return links
