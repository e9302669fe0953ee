"""ADEX: exposure by drug and over all drugs.

And the dated rows of exposure that other datasets start from.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from fhir_adapter.accounting import Finding
from fhir_adapter.derive.dates import impute_dates, read_dates
from fhir_adapter.derive.doses import count_cycles, dose_intensity, planned_levels
from fhir_adapter.derive.numbering import number
from fhir_adapter.lineage import COLUMNS
from fhir_adapter.study import Drug, Study

__all__ = ["GIVEN", "adex_lineage", "exposure_by_drug", "read_exposure", "with_levels"]

#: EXOCCUR of records that are exposure: given, and stopped (rules.md, Which resources count).
GIVEN: Final = ("Y", "S")

_PARAM: Final = {
    "CYCLES": "Cycles given",
    "CYCCOMP": "Cycles with every planned administration",
    "DOSES": "Administrations given",
    "PLANNED": "Administrations planned in the cycles given",
    "UNRECD": "Planned administrations without a record",
    "TDOSE": "Total dose recorded",
    "DOSEGVN": "Dose given",
    "DOSEPLN": "Dose planned for the time on treatment",
    "DINT": "Dose intensity",
    "RDI": "Relative dose intensity",
    "LOWLVL": "Lowest dose (% of the planned)",
    "REDUCT": "Dose reductions",
    "REDUCTAE": "Dose reductions because of an adverse event",
    "INTERR": "Interruptions",
    "INTERRAE": "Interruptions because of an adverse event",
    "MISSED": "Missed administrations",
    "MISSEDAE": "Administrations missed because of an adverse event",
    "STOPFL": "Stopped (Y or N)",
    "STOPAE": "Stopped because of an adverse event (Y or N)",
    "STOPRSN": "Reason of the stop",
    "DURD": "Duration of treatment (days)",
}

#: Which administrations a parameter counts, by EXOCCUR; the others count those that were given.
_OF_KIND: Final = {
    "INTERR": ("H",), "INTERRAE": ("H",), "MISSED": ("N",), "MISSEDAE": ("N",), "STOPFL": ("S",),
    "STOPAE": ("S",), "STOPRSN": ("S",),
}  # fmt: skip
#: Parameters that are made of other parameters of the same subject and drug.
_OF_PARAMETERS: Final = {
    "CYCCOMP": ("CYCLES", "DOSES"), "PLANNED": ("CYCLES",), "UNRECD": ("PLANNED", "DOSES", "INTERR", "MISSED"),
    "DOSEPLN": ("CYCLES",), "DINT": ("DOSEGVN", "CYCLES"), "RDI": ("DOSEGVN", "DOSEPLN"),
    "LOWLVL": ("DOSES",),
}  # fmt: skip
_FLAGS: Final = ("STOPFL", "STOPAE")


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


def with_levels(exposure: pd.DataFrame, sc: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Rows of `read_exposure` with the columns of `planned_levels`, IS_REDUCED and OF_EVENT (bool).

    IS_REDUCED: a dose below the plan by more than `treatment.reduction_tolerance`, after one that was not, or
    lower than the one before by as much again. Where the plan does not tell, a dose that is lower than the one
    before and than the first of the same drug and unit.

    OF_EVENT: the administration says that an adverse event was the reason, by naming the event or by the kind
    of the reason (EXADJ).

    Args:
        exposure: rows of EX of the study's drugs.
        sc: SC, for body size.
        study: treatment.
    """
    rows = exposure.join(planned_levels(exposure, sc, study))
    rows["OF_EVENT"] = rows["EXAEREF"].notna() | rows["EXADJ"].eq("ADVERSE EVENT")
    known = rows[rows["IS_GIVEN"] & rows["EXDOSE"].notna()]
    known = known.sort_values(["USUBJID", "EXTRT", "ASTDT", "EXSEQ"], kind="stable")
    doses = known.groupby(["USUBJID", "EXTRT", "EXDOSU"], dropna=False)["EXDOSE"]
    lower = (known["EXDOSE"] < doses.shift(1)) & (known["EXDOSE"] < doses.transform("first"))
    tolerance = study.treatment.reduction_tolerance + 1e-9
    level = known["LEVEL"]
    before = level.groupby([known["USUBJID"], known["EXTRT"]]).shift(1).fillna(1.0)
    below = (level < 1 - tolerance) & ((before >= 1 - tolerance) | (before - level > tolerance))
    reduced = lower.where(level.isna(), below)
    rows["IS_REDUCED"] = reduced.reindex(rows.index, fill_value=False).astype(bool)
    return rows


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
    kinds = {
        "REDUCT": given[given["IS_REDUCED"]],
        "INTERR": rows[rows["EXOCCUR"] == "H"],
        "MISSED": rows[rows["EXOCCUR"] == "N"],
    }
    for code, chosen in kinds.items():
        table[code] = count(chosen)
        table[f"{code}AE"] = count(chosen[chosen["OF_EVENT"]])
    table["STOPFL"] = count(stops).clip(upper=1)
    table["STOPAE"] = count(stops[stops["OF_EVENT"]]).clip(upper=1)
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


_Part = dict[str, npt.NDArray[Any]]
_PART: Final = ("USUBJID", "EXTRT", "PARAMCD", "AVAL", "AVALC", "AVALU", "REASND")


def _part(
    code: str,
    subject: npt.NDArray[Any],
    drug: npt.NDArray[Any] | None,
    values: pd.Series[Any],
    unit: str | None = None,
    reasons: npt.NDArray[Any] | None = None,
) -> _Part:
    """Columns of the rows of one parameter; a missing value is a row only where a reason is given with it."""
    known = values.notna().to_numpy()
    number = np.full(len(values), np.nan) if code == "STOPRSN" else values.to_numpy(dtype="float64")
    text = np.full(len(values), None, dtype=object)
    if code in _FLAGS:
        text[number == 1] = "Y"
        text[number == 0] = "N"
    elif code == "STOPRSN":
        text[known] = values[known]
    why = np.full(len(values), None, dtype=object)
    if reasons is not None:
        why[~known] = reasons[~known]
    part: _Part = {
        "USUBJID": subject,
        "EXTRT": np.full(len(values), None, dtype=object) if drug is None else drug,
        "PARAMCD": np.full(len(values), code, dtype=object),
        "AVAL": number,
        "AVALC": text,
        "AVALU": np.full(len(values), unit, dtype=object),
        "REASND": why,
    }
    return part if reasons is not None else {name: column[known] for name, column in part.items()}


def _intensities(rows: pd.DataFrame, study: Study) -> list[_Part]:
    """Rows of what doses come to against the plan, drug by drug."""
    parts = []
    for drug in sorted(study.treatment.drugs, key=lambda item: item.concept):
        own = rows[rows["EXTRT"] == drug.concept]
        if own.empty:
            continue
        table = dose_intensity(own, drug, study)
        subject = table.index.to_numpy(dtype=object)
        concept = np.full(len(table), drug.concept, dtype=object)
        reasons = table["WHYNOT"].to_numpy(dtype=object)
        parts += [
            _part(code, subject, concept, table[code], unit, reasons)
            for code, unit in _intensity_parameters(drug)
        ]
    return parts


def _intensity_parameters(drug: Drug) -> list[tuple[str, str | None]]:
    """Code and unit of what the study plans of a drug: administrations, doses, or both."""
    counted: list[tuple[str, str | None]] = [("CYCCOMP", None), ("PLANNED", None), ("UNRECD", None)]
    given: list[tuple[str, str | None]] = [
        ("DOSEGVN", drug.unit),
        ("DINT", f"{drug.unit}/wk"),
        ("LOWLVL", "%"),
    ]
    compared: list[tuple[str, str | None]] = [("DOSEPLN", drug.unit), ("RDI", "%")]
    return [
        *(counted if drug.days else []),
        *(given if drug.dose is not None else []),
        *(compared if drug.days and drug.dose is not None else []),
    ]


def exposure_by_drug(exposure: pd.DataFrame, study: Study, study_id: pd.Series[Any]) -> pd.DataFrame:
    """Rows of ADEX with ASEQ: each parameter for each drug of a subject, and for all drugs (EXTRT null).

    CYCLES over all drugs are those of `treatment.cycles_from` if the study names one. Y and N stand in AVALC,
    with AVAL 1 and 0. What is measured against the plan is for each drug alone; where it is not estimable,
    AVAL is null and REASND says why.

    Args:
        exposure: rows of `with_levels`.
        study: treatment.
        study_id: on USUBJID, STUDYID.
    """
    columns = [
        "STUDYID",
        "USUBJID",
        "PARAMCD",
        "PARAM",
        "EXTRT",
        "SRCDOM",
        "AVAL",
        "AVALC",
        "AVALU",
        "REASND",
    ]
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
    parts = _intensities(exposure, study)
    for table in (by_drug, everything):
        subject = table.index.get_level_values("USUBJID").to_numpy(dtype=object)
        drug = None if table is everything else table.index.get_level_values("EXTRT").to_numpy(dtype=object)
        for code in table.columns:
            parts.append(_part(code, subject, drug, table[code]))
    # One array per column: frames without values in a column are slow to put together.
    rows = pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in _PART})
    rows["STUDYID"] = rows["USUBJID"].map(study_id)
    rows["PARAM"] = rows["PARAMCD"].map(_PARAM)
    rows["SRCDOM"] = "EX"
    # Within a parameter of a subject the parts stand in order already: drugs by name, all drugs last.
    return number("ADEX", rows[columns])


def adex_lineage(adex: pd.DataFrame, exposure: pd.DataFrame) -> pd.DataFrame:
    """Links from each row of ADEX to the administrations, or the other rows of ADEX, that it was made from.

    Returns:
        The columns of `lineage.COLUMNS`.
    """
    rows = adex[["USUBJID", "PARAMCD", "EXTRT", "ASEQ"]]
    direct = rows[~rows["PARAMCD"].isin(_OF_PARAMETERS)]
    kinds = pd.DataFrame(
        [(code, kind) for code in direct["PARAMCD"].unique() for kind in _OF_KIND.get(code, GIVEN)],
        columns=["PARAMCD", "EXOCCUR"],
    )
    doses = exposure[["USUBJID", "EXTRT", "EXOCCUR", "EXSEQ"]].rename(columns={"EXSEQ": "PARENTSEQ"})
    # A row over all drugs is made of those of each drug.
    everything = direct["EXTRT"].isna()
    of_drug, of_all = direct[~everything], direct[everything].drop(columns="EXTRT")
    each = of_drug[["USUBJID", "PARAMCD", "ASEQ"]].rename(columns={"ASEQ": "PARENTSEQ"})
    made = pd.DataFrame(
        [(code, part) for code, parts in _OF_PARAMETERS.items() for part in parts],
        columns=["PARAMCD", "PART"],
    )
    derived = rows[rows["PARAMCD"].isin(_OF_PARAMETERS)].merge(made, on="PARAMCD")
    parts = rows.rename(columns={"PARAMCD": "PART", "ASEQ": "PARENTSEQ"})
    tables = [
        of_drug.merge(kinds, on="PARAMCD")
        .merge(doses, on=["USUBJID", "EXTRT", "EXOCCUR"])
        .assign(PARENT="EX"),
        of_all.merge(each, on=["USUBJID", "PARAMCD"]).assign(PARENT="ADEX"),
        derived.merge(parts, on=["USUBJID", "EXTRT", "PART"]).assign(PARENT="ADEX"),
    ]
    links = pd.concat(
        [table[["USUBJID", "ASEQ", "PARENT", "PARENTSEQ"]] for table in tables], ignore_index=True
    )
    return links.rename(columns={"ASEQ": "SEQ"}).assign(DATASET="ADEX", ROLE="source")[list(COLUMNS)]
