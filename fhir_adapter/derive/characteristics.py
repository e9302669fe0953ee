"""The study's characteristics: variables that ADSL gets from rows of any dataset, with their levels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fhir_adapter.accounting import Finding
from fhir_adapter.conditions import evaluate
from fhir_adapter.datasets import metadata
from fhir_adapter.derive.dates import COLLECTED_AT, read_dates
from fhir_adapter.derive.numbering import none_for_missing
from fhir_adapter.errors import StudyFileError
from fhir_adapter.study import Characteristic, Level

__all__ = ["add_characteristics"]


def add_characteristics(
    adsl: pd.DataFrame, datasets: dict[str, pd.DataFrame], characteristics: list[Characteristic]
) -> tuple[pd.DataFrame, list[Finding]]:
    """Adds a column to ADSL per characteristic, in the study's order: a later one may use an earlier one.

    - A row counts if it satisfies `where` and, with `on_or_before`, is dated (first possible day) by then; an
      undated row then does not count, which is a finding.
    - `first` and `last` go by date, undated rows standing before dated ones; `worst` is the highest number,
      or the level that stands last in the list; `any` is the first row; `all` joins the distinct values by
      ';' in the order of the levels.
    - `flag` is Y for a subject with a row that counts, else N; levels may name the two otherwise.
    - A value gets the level whose `values` (default: its own `value`) or range holds it; a value without one
      stays as it is, and is a finding.

    Args:
        adsl: ADSL so far, with USUBJID, TRTSDT, BASEDT.
        datasets: every other dataset, up to the cut-off.
        characteristics: from the study file.

    Raises:
        StudyFileError: a dataset or variable that is not there, or a variable that ADSL already has as a
            number or date.
    """
    reserved = {
        v.name for v in metadata()["ADSL"].variables if v.type != "text" or v.name in {"USUBJID", "STUDYID"}
    }
    findings: list[Finding] = []
    for item in characteristics:
        if item.variable in reserved:
            raise StudyFileError(
                f"the characteristic {item.variable} has the name of a variable that ADSL computes"
            )
        values = _values(adsl, {**datasets, "ADSL": adsl}, item, findings)
        adsl = adsl.assign(**{item.variable: values.to_numpy()})
    return adsl, findings


def _values(
    adsl: pd.DataFrame, frames: dict[str, pd.DataFrame], item: Characteristic, findings: list[Finding]
) -> pd.Series[Any]:
    if item.dataset not in frames:
        raise StudyFileError(
            f"the characteristic {item.variable} names the dataset {item.dataset}, which is not there",
            remedy=f"There are {', '.join(sorted(frames))}.",
        )
    rows = frames[item.dataset]
    rows = rows if item.where is None else rows[evaluate(item.where, frames, item.dataset)]
    date = COLLECTED_AT.get(item.dataset)
    when = (
        pd.Series(pd.NaT, index=rows.index, dtype="datetime64[ns]")
        if date is None
        else read_dates(rows[date])["FIRST"]
    )
    if item.on_or_before != "any" and date is not None:
        by = adsl.set_index("USUBJID")["TRTSDT" if item.on_or_before == "first_dose" else "BASEDT"]
        undated = int(when.isna().sum())
        if undated:
            text = f"{undated} rows for {item.variable} have no date and cannot be placed before the start"
            findings.append(Finding("undated-characteristic", text, "derive", detail=item.dataset))
        counts = when <= rows["USUBJID"].map(by)
        rows, when = rows[counts], when[counts]
    if item.type == "flag":
        yes = adsl["USUBJID"].isin(rows["USUBJID"])
        return _levels(yes.map({True: "Y", False: "N"}).astype("object"), item, findings)
    if item.source is None or item.source not in rows.columns:
        raise StudyFileError(
            f"the characteristic {item.variable} needs `source`, a variable of {item.dataset}",
            remedy=f"It has {', '.join(map(str, frames[item.dataset].columns))}.",
        )
    present = rows[item.source].notna()
    table = pd.DataFrame({"USUBJID": rows["USUBJID"], "RAW": rows[item.source], "DATE": when})[present]
    table["VALUE"] = _levels(table["RAW"], item, findings)
    table = table.sort_values(["USUBJID", "DATE"], na_position="first", kind="stable")
    picked = _pick(table, item)
    if item.type == "number" and not item.levels:
        return pd.to_numeric(picked.reindex(adsl["USUBJID"]))
    return none_for_missing(picked.reindex(adsl["USUBJID"]))


def _pick(table: pd.DataFrame, item: Characteristic) -> pd.Series[Any]:
    """One value per subject, on USUBJID."""
    rank = {level.value: place for place, level in enumerate(item.levels)}
    if item.pick in {"worst", "all"}:
        order = table["VALUE"].map(rank).astype("float64")
        # Values without a level stand after those that have one, by number or text.
        numbers = pd.to_numeric(table["VALUE"], errors="coerce")
        table = table.assign(RANK=order.fillna(len(rank)), NUMBER=numbers, TEXT=table["VALUE"].astype(str))
        table = table.sort_values(["USUBJID", "RANK", "NUMBER", "TEXT"], na_position="first", kind="stable")
    if item.pick == "all":
        return table.groupby("USUBJID")["TEXT"].agg(lambda values: ";".join(dict.fromkeys(values)))
    by_subject = table.groupby("USUBJID")
    # nth, unlike first and last, takes the row and not the first value that is not missing.
    chosen = by_subject.nth(0) if item.pick in {"first", "any"} else by_subject.nth(-1)
    return chosen.set_index("USUBJID")["VALUE"]


def _text(value: object) -> str:
    """A raw value as a study file writes it: 3 for 3.0."""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _level_of(value: object, levels: list[Level]) -> str | None:
    text = _text(value)
    number = pd.to_numeric(text, errors="coerce")
    for level in levels:
        bounds = (level.ge, level.gt, level.le, level.lt)
        ranged = any(bound is not None for bound in bounds)
        if text in level.values or (not level.values and not ranged and text == level.value):
            return level.value
        if ranged and not np.isnan(number) and _within(float(number), level):
            return level.value
    return None


def _within(number: float, level: Level) -> bool:
    return (
        (level.ge is None or number >= level.ge)
        and (level.gt is None or number > level.gt)
        and (level.le is None or number <= level.le)
        and (level.lt is None or number < level.lt)
    )


def _levels(raw: pd.Series[Any], item: Characteristic, findings: list[Finding]) -> pd.Series[Any]:
    """The level of each raw value; without levels, the text (or number) itself."""
    if not item.levels:
        return (
            pd.to_numeric(raw, errors="coerce") if item.type == "number" else raw.map(_text).astype("object")
        )
    distinct = {value: _level_of(value, item.levels) for value in raw.unique()}
    unmapped = sorted(_text(value) for value, level in distinct.items() if level is None)
    if unmapped:
        number = int(raw.isin([value for value, level in distinct.items() if level is None]).sum())
        text = f"{number} values for {item.variable} belong to no level of the study file"
        findings.append(
            Finding("unmapped-level", text, "derive", detail=f"{item.variable}: {', '.join(unmapped)}")
        )
    return raw.map(
        {value: level if level is not None else _text(value) for value, level in distinct.items()}
    ).astype("object")
