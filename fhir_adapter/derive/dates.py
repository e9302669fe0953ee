"""Dates as FHIR writes them: partial dates, their imputation, and the data cut-off.

A FHIR date or dateTime may stop at the year or the month. It is read as the first and the last day it may
mean; the calendar day is the one that is written, without any shift by an offset (rules.md, Dates, units,
identity).
"""

from __future__ import annotations

import calendar
import datetime as dt
import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from fhir_adapter.accounting import Finding
from fhir_adapter.study.outcomes import Impute

__all__ = ["COLLECTED_AT", "apply_cut_off", "complete_dates", "impute_dates", "read_dates"]

#: The variable that dates a row of an SDTM-like dataset, for the cut-off and for the order of rows.
COLLECTED_AT: Final[Mapping[str, str]] = {
    "MH": "MHSTDTC",
    "SC": "SCDTC",
    "TU": "TUDTC",
    "TR": "TRDTC",
    "RS": "RSDTC",
    "EX": "EXSTDTC",
    "CM": "CMSTDTC",
    "AE": "AESTDTC",
    "PR": "PRSTDTC",
    "SV": "SVSTDTC",
    "DS": "DSSTDTC",
}

_FHIR_DATE = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2})(?:T.*)?)?)?", re.ASCII)


def _possible_days(text: str) -> tuple[dt.date, dt.date, str] | None:
    """The first and the last day that a text may mean, and its precision (Y, M or D).

    None if it is not a date.
    """
    found = _FHIR_DATE.fullmatch(text.strip())
    if found is None:
        return None
    year, month, day = (None if part is None else int(part) for part in found.groups())
    try:
        if month is None:
            return dt.date(int(year or 0), 1, 1), dt.date(int(year or 0), 12, 31), "Y"
        if day is None:
            last = calendar.monthrange(int(year or 0), month)[1]
            return dt.date(int(year or 0), month, 1), dt.date(int(year or 0), month, last), "M"
        whole = dt.date(int(year or 0), month, day)
    except (ValueError, calendar.IllegalMonthError):
        return None
    return whole, whole, "D"


def read_dates(column: pd.Series[Any]) -> pd.DataFrame:
    """Reads ISO 8601 texts as FHIR writes them.

    Args:
        column: YYYY, YYYY-MM, YYYY-MM-DD or a dateTime; missing values are allowed.

    Returns:
        On the index of `column`: FIRST and LAST (datetime64[ns]), the days between which the date lies;
        PRECISION: Y, M, D, or None where there is no date or the text is none; WRONG: True where the text is
            not a date.
    """
    codes, texts = pd.factorize(column)
    first = np.full(len(texts) + 1, np.datetime64("NaT"), dtype="datetime64[ns]")
    last = first.copy()
    precision = np.full(len(texts) + 1, None, dtype=object)
    wrong = np.zeros(len(texts) + 1, dtype=np.bool_)
    for place, text in enumerate(texts):
        days = _possible_days(str(text))
        # Years outside nanoseconds' range (1678 to 2261) are mistakes in a hospital's record.
        if days is None or not 1700 <= days[0].year <= 2200:
            wrong[place] = True
            continue
        first[place], last[place], precision[place] = np.datetime64(days[0]), np.datetime64(days[1]), days[2]
    table = {"FIRST": first, "LAST": last, "PRECISION": precision, "WRONG": wrong}
    return pd.DataFrame({name: values[codes] for name, values in table.items()}, index=column.index)


def complete_dates(column: pd.Series[Any]) -> pd.Series[Any]:
    """The calendar days of complete dates; NaT where a date is missing, partial or not a date."""
    read = read_dates(column)
    return read["FIRST"].where(read["PRECISION"] == "D")


def _middle(read: pd.DataFrame) -> pd.Series[Any]:
    """30 June of a year, the 15th of a month (the convention of the pharmaverse's `admiral`)."""
    month = read["FIRST"] + pd.to_timedelta(14, unit="D")
    year = read["LAST"] - pd.to_timedelta(184, unit="D")
    return year.where(read["PRECISION"] == "Y", month)


def impute_dates(
    read: pd.DataFrame,
    rule: Impute,
    *,
    lower: tuple[pd.Series[Any], ...] = (),
    upper: tuple[pd.Series[Any], ...] = (),
) -> pd.DataFrame:
    """Makes dates of partial dates by the study's rule.

    A bound moves an imputed date only within what was written: `2021-05` never becomes a day of April.

    Args:
        read: what `read_dates` returned.
        rule: `first`, `middle` (the 15th; 30 June of a year) or `last` possible day; `none`: a partial date
            stays missing.
        lower: dates (on the index of `read`) before which the imputed date cannot be: birth, first dose …
        upper: dates after which it cannot be: last known alive, death.

    Returns:
        DATE (datetime64[ns]) and FLAG: D where the day, M where month and day were imputed, else None.
    """
    complete = read["PRECISION"] == "D"
    partial = read["PRECISION"].isin(["Y", "M"])
    date = read["FIRST"].where(complete)
    flag = pd.Series(np.full(len(read), None), index=read.index, dtype="object")
    if rule != "none" and partial.any():
        guess = {"first": read["FIRST"], "last": read["LAST"], "middle": _middle(read)}[rule]
        for bound in lower:
            guess = guess.mask((bound > guess) & (bound <= read["LAST"]), bound)
        for bound in upper:
            guess = guess.mask((bound < guess) & (bound >= read["FIRST"]), bound)
        date = date.mask(partial, guess)
        flag = read["PRECISION"].map({"M": "D", "Y": "M"}).astype("object")
        flag[flag.isna()] = None
    return pd.DataFrame({"DATE": date, "FLAG": flag})


def apply_cut_off(
    sdtm: Mapping[str, pd.DataFrame], cutoff: dt.date
) -> tuple[dict[str, pd.DataFrame], list[Finding]]:
    """Leaves out the rows that are dated after the cut-off; undated rows stay.

    A partial date counts by its first possible day. What is left out is one finding per dataset, with the
    number of rows; a text that is not a date is a finding too.
    """
    kept: dict[str, pd.DataFrame] = {}
    findings: list[Finding] = []
    for name, rows in sdtm.items():
        variable = COLLECTED_AT.get(name)
        if variable is None or rows.empty:
            kept[name] = rows
            continue
        read = read_dates(rows[variable])
        if read["WRONG"].any():
            number = int(read["WRONG"].sum())
            findings.append(
                Finding("not-a-date", f"{number} values of {variable} are not dates", "derive", detail=name)
            )
        late = read["FIRST"] > pd.Timestamp(cutoff)
        if late.any():
            findings.append(
                Finding(
                    "after-cut-off",
                    f"{int(late.sum())} rows of {name} are dated after the data cut-off and do not count",
                    "derive",
                    detail=f"{name}: {int(late.sum())}",
                )
            )
        kept[name] = rows[~late].reset_index(drop=True)
    return kept, findings
