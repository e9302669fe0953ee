"""Doses against the plan of the study file: units, body size, planned administrations, dose intensity.

Dose intensity is the dose given per week of treatment, relative dose intensity its share of the planned one
(Hryniuk and Bush 1984). Time on treatment runs from the first day of the first cycle to the planned end of
the last one, so that delays lower the intensity. Where something is missing the value is not estimable, with
the reason; nothing is assumed.
"""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
import pandas as pd

from fhir_adapter.derive.dates import complete_dates
from fhir_adapter.derive.visits import cluster_days
from fhir_adapter.study import BodySize, Drug, Study

__all__ = ["body_surface", "count_cycles", "dose_factor", "dose_intensity", "planned_levels", "split_cycles"]

#: UCUM: gram with the prefixes that doses have, in mg.
_MASS: Final = {"kg": 1e6, "g": 1e3, "mg": 1.0, "ug": 1e-3, "ng": 1e-6, "pg": 1e-9}
_UNIT: Final = re.compile(r"(?P<amount>[^/]+?)(?:/(?P<per>m2|kg))?")
_NO_PLAN: Final = "the study file plans no dose"


def _parse(unit: str | None) -> tuple[str, float, str] | None:
    """Kind of amount, factor to its base, and what it is per (`m2`, `kg` or nothing); None for no unit."""
    found = None if not unit else _UNIT.fullmatch(unit.strip())
    if found is None:
        return None
    amount, per = found["amount"], found["per"] or ""
    return ("mass", _MASS[amount], per) if amount in _MASS else (amount, 1.0, per)


def dose_factor(unit: str | None, planned: str) -> tuple[float | None, str, str]:
    """What a dose has to be multiplied by to be in the planned unit.

    Args:
        unit: UCUM unit of the dose.
        planned: UCUM unit of the plan: an amount (`mg`, `g`, `ug`, `[iU]` …), perhaps per `m2` or `kg`.

    Returns:
        (factor, body size, reason): body size is empty, or `/m2`, `/kg` (the dose is to be divided by it) or
        `*m2`, `*kg` (to be multiplied); the factor is None where the two cannot be compared, for the reason.
    """
    given, plan = _parse(unit), _parse(planned)
    if plan is None:
        return None, "", "the planned dose has no unit"
    if given is None:
        return None, "", "a dose without a unit"
    if given[0] != plan[0]:
        return None, "", f"a dose in {unit}, planned in {planned}"
    factor = given[1] / plan[1]
    if given[2] == plan[2]:
        return factor, "", ""
    if plan[2] and not given[2]:
        return factor, f"/{plan[2]}", ""
    if given[2] and not plan[2]:
        return factor, f"*{given[2]}", ""
    return None, "", f"a dose in {unit}, planned in {planned}"


def body_surface(weight: pd.Series[Any], height: pd.Series[Any], formula: str) -> pd.Series[Any]:
    """Body surface area in m2 from weight in kg and height in cm.

    Args:
        weight: kg.
        height: cm.
        formula: `mosteller` (Mosteller 1987: the root of weight * height / 3600) or `dubois` (DuBois and
            DuBois 1916: 0.007184 * weight^0.425 * height^0.725).
    """
    if formula == "mosteller":
        mosteller: pd.Series[Any] = (weight * height / 3600) ** 0.5
        return mosteller
    return 0.007184 * weight**0.425 * height**0.725


def _last_value(sc: pd.DataFrame, code: str, at: pd.DataFrame) -> pd.Series[Any]:
    """The last value of a characteristic up to a day.

    Args:
        sc: SC.
        code: SCTESTCD.
        at: USUBJID, DATE.

    Returns:
        On the index of `at`.
    """
    known = sc[(sc["SCTESTCD"] == code) & sc["SCSTRESN"].gt(0)]
    known = known.assign(DATE=complete_dates(known["SCDTC"])).dropna(subset=["DATE"])
    if known.empty or at.empty:
        return pd.Series(np.nan, index=at.index)
    known = known.sort_values(["DATE", "SCSEQ"], kind="stable")[["USUBJID", "DATE", "SCSTRESN"]]
    wanted = at.assign(ROW=np.arange(len(at))).dropna(subset=["DATE"]).sort_values("DATE", kind="stable")
    found = pd.merge_asof(wanted, known, on="DATE", by="USUBJID").set_index("ROW")["SCSTRESN"]
    return pd.Series(found.reindex(range(len(at))).to_numpy(dtype="float64"), index=at.index)


def _body_size(doses: pd.DataFrame, sc: pd.DataFrame, of: str, settings: BodySize) -> pd.Series[Any]:
    """Weight in kg or body surface in m2 of each dose; NaN where it is not on record."""
    day = doses["ASTDT"]
    if settings.at == "baseline":
        day = day.groupby(doses["USUBJID"]).transform("min")
    at = pd.DataFrame({"USUBJID": doses["USUBJID"], "DATE": day})
    weight = _last_value(sc, "WEIGHT", at)
    if of == "kg":
        return weight
    recorded = _last_value(sc, "BSA", at)
    return recorded.fillna(body_surface(weight, _last_value(sc, "HEIGHT", at), settings.formula))


def planned_levels(exposure: pd.DataFrame, sc: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Each administration in the planned unit and as a share of the planned dose.

    Args:
        exposure: rows of EX of the study's drugs: USUBJID, EXTRT, EXDOSE, EXDOSU, EXOCCUR, IS_GIVEN, ASTDT.
        sc: SC, for body size.
        study: treatment.

    Returns:
        On the index of `exposure`: PDOSE, the dose in the planned unit (NaN where it is not known or not
        comparable; a stopped administration without a dose gave none: 0); LEVEL, its share of the planned dose
        (1 is the plan); WHYNOT, why PDOSE is missing.
    """
    table = pd.DataFrame({"PDOSE": np.nan, "LEVEL": np.nan, "WHYNOT": _NO_PLAN}, index=exposure.index)
    for drug in study.treatment.drugs:
        own = exposure[exposure["EXTRT"].eq(drug.concept) & exposure["IS_GIVEN"]]
        if drug.dose is None or own.empty:
            continue
        dose, why = own["EXDOSE"].copy(), pd.Series("", index=own.index)
        for unit in own["EXDOSU"].drop_duplicates():
            rows = own["EXDOSU"].isna() if pd.isna(unit) else own["EXDOSU"].eq(unit)
            factor, size, reason = dose_factor(None if pd.isna(unit) else str(unit), drug.unit)
            if factor is None:
                dose[rows], why[rows] = np.nan, reason
                continue
            dose[rows] *= factor
            if size:
                body = _body_size(own, sc, size[1:], study.treatment.body_size)[rows]
                dose[rows] = dose[rows] / body if size[0] == "/" else dose[rows] * body
                why[rows] = why[rows].mask(
                    body.isna(),
                    "no body weight on record" if size[1:] == "kg" else "no body surface on record",
                )
        missing = own["EXDOSE"].isna()
        why = why.mask(missing, "a dose that is not recorded")
        ended = missing & own["EXOCCUR"].eq("S")
        dose, why = dose.mask(ended, 0.0), why.mask(ended, "")
        table.loc[own.index, "PDOSE"] = dose
        table.loc[own.index, "LEVEL"] = dose / drug.dose
        table.loc[own.index, "WHYNOT"] = why
    return table


def split_cycles(rows: pd.DataFrame, by: list[str], cycle_length_days: int) -> pd.DataFrame:
    """The administrations of each group, cut at the ends of whole cycles, with the cycle of each piece.

    A cycle begins with the first dose that comes at least three quarters of a cycle's length after the
    beginning of the cycle before: infusions of one day, courses of tablets (14 days of 21) recorded as one or
    as daily records, and doses on days 1, 8 and 15 all count once per cycle, a delayed cycle too. One record
    that goes on for longer than a cycle holds a further cycle for each whole cycle's length before its end.

    Args:
        rows: administrations given: ASTDT and AENDT, and the columns of `by`.
        by: what makes a group: USUBJID, or USUBJID and EXTRT.
        cycle_length_days: planned length of a cycle.

    Returns:
        One row per piece: GROUP (number of the group in the order of `by`), ROW (position in `rows`), DAY
        (first day of the piece, as days since 1970), DAYS (its length), CYCLE (0, 1, …).
    """
    group_of = rows.groupby(by, sort=True).ngroup().to_numpy()
    first = rows["ASTDT"].to_numpy().astype("datetime64[D]").astype(np.int64)
    last = rows["AENDT"].to_numpy().astype("datetime64[D]").astype(np.int64)
    held = np.maximum(1, -(-(last - first) // cycle_length_days))
    row = np.repeat(np.arange(len(rows)), held)
    within = np.arange(len(row)) - np.repeat(np.cumsum(held) - held, held)
    day = first[row] + within * cycle_length_days
    # The last piece of a record takes what is left of it.
    length = np.where(within + 1 == held[row], last[row] - day + 1, cycle_length_days)
    shortest = -(-3 * cycle_length_days // 4)
    group = group_of[row]
    return pd.DataFrame(
        {
            "GROUP": group,
            "ROW": row,
            "DAY": day,
            "DAYS": length,
            "CYCLE": cluster_days(group, day, shortest - 1),
        }
    )


def count_cycles(rows: pd.DataFrame, by: list[str], cycle_length_days: int) -> pd.Series[Any]:
    """Number of cycles (`split_cycles`) in the administrations of each group, on the values of `by`."""
    pieces = split_cycles(rows, by, cycle_length_days)
    cycles = pieces.groupby("GROUP")["CYCLE"].max() + 1
    return pd.Series(cycles.to_numpy(dtype="float64"), index=rows.groupby(by, sort=True).size().index)


def _administrations(pieces: pd.DataFrame, drug: Drug) -> pd.Series[Any]:
    """How many administrations each piece of a record tells of."""
    if drug.record == "administration":
        # The record is one administration, whatever its length: it counts in its first piece.
        return (~pieces["ROW"].duplicated()).astype("float64")
    return pieces["DAYS"].clip(upper=len(drug.days) or None).astype("float64") * drug.per_day


def dose_intensity(exposure: pd.DataFrame, drug: Drug, study: Study) -> pd.DataFrame:
    """What one drug's administrations come to against its plan.

    Args:
        exposure: rows of EX of this drug, with ASTDT, AENDT, IS_GIVEN and the columns of `planned_levels`.
        drug: its plan.
        study: treatment.

    Returns:
        On USUBJID, columns of floats (NaN where not estimable): CYCCOMP, cycles with every planned
        administration; PLANNED, administrations planned in the cycles started; UNRECD, those of them without
        any record, given, held or missed; DOSEGVN, dose given, and DOSEPLN, dose planned for the time on
        treatment, in the planned unit; DINT, dose given per week; RDI, % of the planned intensity; LOWLVL, the
        lowest dose in % of the planned one. And WHYNOT: why a figure is missing that the study plans.
    """
    length = drug.cycle_length_days or study.treatment.cycle_length_days
    index = pd.Index(sorted(set(exposure["USUBJID"])), name="USUBJID")
    names = ("CYCCOMP", "PLANNED", "UNRECD", "DOSEGVN", "DOSEPLN", "DINT", "RDI", "LOWLVL")
    table = pd.DataFrame(np.nan, index=index, columns=list(names))
    table["WHYNOT"] = "no dose was given"
    given = exposure[exposure["IS_GIVEN"] & exposure["ASTDT"].notna()]
    # A stop without a dose ends the treatment and gives nothing.
    given = given[~(given["EXOCCUR"].eq("S") & given["EXDOSE"].isna())].reset_index(drop=True)
    if given.empty:
        return table
    pieces = split_cycles(given, ["USUBJID"], length)
    pieces["USUBJID"] = given["USUBJID"].to_numpy()[pieces["ROW"]]
    pieces["NUMBER"] = _administrations(pieces, drug)
    pieces["DOSE"] = pieces["NUMBER"] * given["PDOSE"].to_numpy()[pieces["ROW"]]
    of_subject = pieces.groupby("USUBJID")
    cycles = of_subject["CYCLE"].max() + 1
    starts = pieces.groupby(["USUBJID", "CYCLE"])["DAY"].min().groupby("USUBJID")
    days = (starts.max() - starts.min() + length).astype("float64")
    why = given.loc[given["WHYNOT"].ne("")].drop_duplicates("USUBJID").set_index("USUBJID")["WHYNOT"]
    treated = cycles.index
    table.loc[treated, "WHYNOT"] = why.reindex(treated).fillna("")
    dose = of_subject["DOSE"].sum().where(table.loc[treated, "WHYNOT"].eq(""))
    table.loc[treated, "DOSEGVN"] = dose
    table.loc[treated, "DINT"] = dose / days * 7
    lowest = given[given["PDOSE"].notna()].groupby("USUBJID")["LEVEL"].min() * 100
    table.loc[treated, "LOWLVL"] = lowest.reindex(treated).where(dose.notna())
    if not drug.days:
        return table
    per_cycle = len(drug.days) * drug.per_day
    in_cycle = pieces.groupby(["USUBJID", "CYCLE"])["NUMBER"].sum()
    table.loc[treated, "CYCCOMP"] = (in_cycle >= per_cycle).groupby("USUBJID").sum().astype("float64")
    planned = (cycles * per_cycle).astype("float64")
    table.loc[treated, "PLANNED"] = planned
    table.loc[treated, "UNRECD"] = (planned - _recorded(exposure, drug, length).reindex(treated)).clip(
        lower=0
    )
    if drug.dose is not None:
        plan = drug.dose * per_cycle / length * days
        table.loc[treated, "DOSEPLN"] = plan
        table.loc[treated, "RDI"] = 100 * dose / plan
    return table


def _recorded(exposure: pd.DataFrame, drug: Drug, length: int) -> pd.Series[Any]:
    """Administrations with a record: given, held or missed."""
    dated = exposure[exposure["ASTDT"].notna() & ~(exposure["EXOCCUR"].eq("S") & exposure["EXDOSE"].isna())]
    dated = dated.reset_index(drop=True)
    pieces = split_cycles(dated, ["USUBJID"], length)
    number = _administrations(pieces, drug)
    return number.groupby(dated["USUBJID"].to_numpy()[pieces["ROW"]]).sum()
