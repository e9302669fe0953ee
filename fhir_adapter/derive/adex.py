"""ADEX: exposure by drug and over all drugs.

And the dated rows of exposure that other datasets start from.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

import numpy as np
import pandas as pd

from fhir_adapter.accounting import Finding
from fhir_adapter.derive.dates import impute_dates, read_dates
from fhir_adapter.derive.numbering import number
from fhir_adapter.derive.visits import cluster_days
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


def count_cycles(rows: pd.DataFrame, by: list[str], cycle_length_days: int) -> pd.Series[Any]:
    """Number of cycles in the administrations of each group.

    A cycle begins with the first dose that comes at least three quarters of a cycle's length after the
    beginning of the cycle before: infusions of one day, courses of tablets (14 days of 21) recorded as one or
    as daily records, and doses on days 1, 8 and 15 all count once per cycle, a delayed cycle too. One record
    that goes on for longer than a cycle holds a further cycle for each whole cycle's length before its end.

    Args:
        rows: administrations given: ASTDT and AENDT, and the columns of `by`.
        by: what makes a group: USUBJID, or USUBJID and EXTRT.
        cycle_length_days: planned length of a cycle.

    Returns:
        On the values of `by`.
    """
    groups = rows.groupby(by, sort=True)
    first = rows["ASTDT"].to_numpy().astype("datetime64[D]").astype(np.int64)
    last = rows["AENDT"].to_numpy().astype("datetime64[D]").astype(np.int64)
    held = np.maximum(1, -(-(last - first) // cycle_length_days))
    group = np.repeat(groups.ngroup().to_numpy(), held)
    within = np.arange(len(group)) - np.repeat(np.cumsum(held) - held, held)
    day = np.repeat(first, held) + within * cycle_length_days
    shortest = -(-3 * cycle_length_days // 4)
    cycles = pd.Series(cluster_days(group, day, shortest - 1)).groupby(group).max() + 1
    return pd.Series(cycles.to_numpy(dtype="float64"), index=groups.size().index)


def _reduced(given: pd.DataFrame) -> pd.Series[bool]:
    """Doses that are lower than the one before and than the first of the same drug and unit."""
    known = given[given["EXDOSE"].notna()].sort_values(["USUBJID", "ASTDT", "EXSEQ"], kind="stable")
    doses = known.groupby(["USUBJID", "EXTRT", "EXDOSU"], dropna=False)["EXDOSE"]
    lower = (known["EXDOSE"] < doses.shift(1)) & (known["EXDOSE"] < doses.transform("first"))
    return lower.reindex(given.index, fill_value=False)


def _parameters(rows: pd.DataFrame, by: list[str], cycle_length_days: int) -> pd.DataFrame:
    """One row per group of `by`, a column per parameter; STOPRSN is text, STOPFL and STOPAE are 1 or 0."""
    groups = rows.groupby(by, sort=True)
    given = rows[rows["IS_GIVEN"] & rows["ASTDT"].notna()]
    stops = rows[rows["EXOCCUR"] == "S"]
    table = pd.DataFrame(index=groups.size().index)

    def count(chosen: pd.DataFrame) -> pd.Series[Any]:
        return chosen.groupby(by).size().reindex(table.index, fill_value=0).astype("float64")

    table["CYCLES"] = count_cycles(given, by, cycle_length_days).reindex(table.index, fill_value=0.0)
    table["DOSES"] = count(given)
    table["REDUCT"] = count(given[_reduced(given)])
    table["INTERR"] = count(rows[rows["EXOCCUR"] == "H"])
    table["MISSED"] = count(rows[rows["EXOCCUR"] == "N"])
    table["STOPFL"] = count(stops).clip(upper=1)
    table["STOPAE"] = count(stops[stops["EXAEREF"].notna()]).clip(upper=1)
    reasons = stops[stops["EXREASND"].notna()].sort_values(["USUBJID", "ASTDT", "EXSEQ"], kind="stable")
    text = reasons.drop_duplicates([*by, "EXREASND"]).groupby(by)["EXREASND"].agg("; ".join)
    table["STOPRSN"] = text.reindex(table.index)
    course = given.groupby(by)
    table["DURD"] = (course["AENDT"].max() - course["ASTDT"].min()).dt.days.reindex(table.index) + 1
    if "EXTRT" in by:
        # A sum over different drugs or units says nothing.
        total = course["EXDOSE"].sum(min_count=1).where(course["EXDOSU"].nunique() <= 1)
        table["TDOSE"] = total.reindex(table.index)
    return table


def exposure_by_drug(exposure: pd.DataFrame, study: Study, study_id: pd.Series[Any]) -> pd.DataFrame:
    """Rows of ADEX with ASEQ: each parameter for each drug of a subject, and for all drugs (EXTRT null).

    CYCLES over all drugs are those of `treatment.cycles_from` if the study names one. Y and N stand in AVALC,
    with AVAL 1 and 0.

    Args:
        exposure: rows of `read_exposure`.
        study: treatment.
        study_id: on USUBJID, STUDYID.
    """
    columns = ["STUDYID", "USUBJID", "PARAMCD", "PARAM", "EXTRT", "SRCDOM", "AVAL", "AVALC"]
    if exposure.empty:
        return number("ADEX", pd.DataFrame(columns=columns).astype({"AVAL": "float64"}))
    length = study.treatment.cycle_length_days
    by_drug = _parameters(exposure, ["USUBJID", "EXTRT"], length)
    everything = _parameters(exposure, ["USUBJID"], length)
    source = next((d.concept for d in study.treatment.drugs if d.id == study.treatment.cycles_from), None)
    if source is not None:
        cycles = by_drug["CYCLES"].reset_index()
        of_source = cycles[cycles["EXTRT"] == source].set_index("USUBJID")["CYCLES"]
        everything["CYCLES"] = of_source.reindex(everything.index, fill_value=0.0)
    parts = []
    for table in (by_drug, everything):
        for code in table.columns:
            known = table[table[code].notna()].reset_index()
            if known.empty:
                continue
            value = known[code]
            part = pd.DataFrame({"USUBJID": known["USUBJID"], "PARAMCD": code})
            part["EXTRT"] = known.get("EXTRT")
            part["AVAL"] = np.nan if code == "STOPRSN" else value.astype("float64")
            part["AVALC"] = value.map({1.0: "Y", 0.0: "N"}) if code in {"STOPFL", "STOPAE"} else None
            if code == "STOPRSN":
                part["AVALC"] = value
            parts.append(part.astype({"EXTRT": "object", "AVALC": "object", "AVAL": "float64"}))
    rows = pd.concat(parts, ignore_index=True)
    rows["STUDYID"] = rows["USUBJID"].map(study_id)
    rows["PARAM"] = rows["PARAMCD"].map(_PARAM)
    rows["SRCDOM"] = "EX"
    # Drugs by name, all drugs last.
    return number("ADEX", rows[columns].sort_values(["USUBJID", "PARAMCD", "EXTRT"], na_position="last"))


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
