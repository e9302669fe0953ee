"""ADTR: sums of diameters by visit, with baseline, nadir and changes (Eisenhauer 2009, 4.3.1 and 4.3.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fhir_adapter.derive.baseline import Graded
from fhir_adapter.derive.numbering import flag, number, study_day
from fhir_adapter.lineage import Link

__all__ = ["adtr_lineage", "best_change", "sums_of_diameters"]


def sums_of_diameters(
    responses: pd.DataFrame,
    graded: Graded,
    study_id: pd.Series[Any],
    progression: pd.Series[Any],
    death: pd.Series[Any],
) -> pd.DataFrame:
    """Rows of ADTR: one per visit at which a target was measured.

    CHG and PCHG stand only where every target was measured; a partial sum keeps its AVAL, and its change from
    the nadir, where it shows progression. ANL01FL marks the fully assessed visits after baseline up to the
    first progression.

    Args:
        responses: what `recist.visit_responses` returned for `graded`, without stand-ins.
        graded: visits and baselines.
        study_id: on USUBJID, STUDYID.
        progression: on USUBJID, the day of the first progression that counts.
        death: on USUBJID, the day of death.

    Returns:
        The columns of ADTR with ASEQ, and `NADIR_SEQ`: the ASEQ of the row that has the nadir (missing
        without one).
    """
    rows = responses.merge(graded.visits, on=["USUBJID", "VISIT"], how="inner", validate="1:1")
    rows = rows[rows["SUMDIAM"].notna()].reset_index(drop=True)
    subject = rows["USUBJID"]
    complete, baseline = rows["COMPLETE"], rows["ABLFL"]
    base = rows["BASE"]
    change = rows["SUMDIAM"] - base
    above = rows["SUMDIAM"] - rows["NADIR"]
    counts = complete & ~baseline & base.notna()
    limit = subject.map(progression)
    counts &= limit.isna() | (rows["ADT"] <= limit)
    limit = subject.map(death)
    counts &= limit.isna() | (rows["ADT"] <= limit)
    whole = complete & base.notna()
    table = pd.DataFrame(
        {
            "STUDYID": subject.map(study_id),
            "USUBJID": subject,
            "PARAMCD": "SDIAM",
            "PARAM": "Sum of diameters of target lesions (mm)",
            "VISIT": rows["VISIT"],
            "ADT": rows["ADT"],
            "ADY": study_day(rows["ADT"], subject.map(graded.baseline["BASEDT"])),
            "AVAL": rows["SUMDIAM"],
            "BASE": base,
            "CHG": change.where(whole & ~baseline),
            "PCHG": _percent(change, base).where(whole & ~baseline),
            "NADIR": rows["NADIR"],
            "PCHGNAD": _percent(above, rows["NADIR"]).where(whole | rows["TRGRESP"].eq("PD")),
            "ABLFL": flag(baseline),
            "ANL01FL": flag(counts),
            "SRCDOM": "TR",
            "SRCVAR": "TRSTRESN",
            "NADIR_ROW": _nadir_row(rows),
            "ROW": np.arange(len(rows)),
        }
    )
    numbered = number("ADTR", table)
    seq = numbered.set_index("ROW")["ASEQ"]
    return numbered.assign(NADIR_SEQ=numbered["NADIR_ROW"].map(seq))


def _percent(part: pd.Series[Any], whole: pd.Series[Any]) -> pd.Series[Any]:
    """`part` as % of `whole`; missing where `whole` is 0 (a sum of 0 has no percent change)."""
    return 100 * part / whole.where(whole > 0)


def _nadir_row(rows: pd.DataFrame) -> pd.Series[Any]:
    """Per row the position of the earlier, fully assessed row with the smallest sum (of equals the first)."""
    whole = rows["COMPLETE"]
    size = rows["SUMDIAM"].where(whole, np.inf)
    lowest = size.groupby(rows["USUBJID"]).cummin()
    before = lowest.groupby(rows["USUBJID"]).shift(1)
    is_new = whole & (before.isna() | (size < before))
    place = pd.Series(np.arange(len(rows), dtype="float64"), index=rows.index).where(is_new)
    return place.groupby(rows["USUBJID"]).ffill().groupby(rows["USUBJID"]).shift(1)


def best_change(adtr: pd.DataFrame) -> pd.Series[Any]:
    """On USUBJID: the best (smallest) percent change over the rows that count.

    Subjects without one are not in it.
    """
    rows = adtr[adtr["ANL01FL"].eq("Y") & adtr["PCHG"].notna()]
    return rows.groupby("USUBJID")["PCHG"].min()


def adtr_lineage(adtr: pd.DataFrame, graded: Graded) -> list[Link]:
    """Links of ADTR: to the measurements in each sum, to the baseline row and to the nadir row."""
    parts = graded.tr[graded.tr["ASSESSED"] & (graded.tr["ROLE"] == "TARGET")]
    sums = adtr[["USUBJID", "VISIT", "ASEQ"]].merge(
        parts[["USUBJID", "VISIT", "TRSEQ"]], on=["USUBJID", "VISIT"]
    )
    links: list[Link] = [
        (subject, "ADTR", int(seq), "TR", int(parent), "sum")
        for subject, seq, parent in sums[["USUBJID", "ASEQ", "TRSEQ"]].itertuples(index=False)
    ]
    base = adtr[adtr["ABLFL"].eq("Y")].set_index("USUBJID")["ASEQ"]
    later = adtr[adtr["ABLFL"].isna()]
    for role, parent_of in (("baseline", later["USUBJID"].map(base)), ("nadir", later["NADIR_SEQ"])):
        has = parent_of.notna()
        links += [
            (subject, "ADTR", int(seq), "ADTR", int(parent), role)
            for subject, seq, parent in zip(
                later.loc[has, "USUBJID"], later.loc[has, "ASEQ"], parent_of[has], strict=True
            )
        ]
    return links
