"""Tumour assessments made ready for grading: evaluator, lesions, visits.

Sources: rules.md, `Visit` and `Lesion`; Eisenhauer 2009, 3.1 and 4.2 (number of targets). What cannot be used
is a finding; nothing is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from fhir_adapter.accounting import Finding
from fhir_adapter.derive.dates import impute_dates, read_dates
from fhir_adapter.derive.evaluators import read_by
from fhir_adapter.derive.findings import of_subjects, per_subject
from fhir_adapter.derive.recist.eligibility import MAX_TARGETS, MAX_TARGETS_PER_ORGAN
from fhir_adapter.derive.recist.pieces import has_pieces, link_pieces, list_pieces
from fhir_adapter.study import Study

__all__ = [
    "Assessments",
    "assign_visits",
    "cluster_days",
    "impossible_scans",
    "read_assessments",
]

Ints = npt.NDArray[np.int64]

_STATES: Final = ("ABSENT", "PRESENT", "EQUIVOCAL", "UNEQUIVOCAL")
_TOO_SMALL: Final = r"(?:TOO SMALL TO MEASURE|TSTM|< ?\d+(?:\.\d+)?(?: ?[MC]M)?)"


@dataclass
class Assessments:
    """Lesions and their findings, one evaluator's.

    Attributes:
        tu: USUBJID, TULNKID, TUSTRESC, NODAL (bool), TULOC, TUSEQ; one row per lesion.
        tr: USUBJID, TRLNKID, VISIT (after `assign_visits`), ADT, TRTESTCD, TRSTRESN (mm), TRSTRESC, TRSEQ,
            ROLE, and
            ASSESSED: whether the row says something (a target's size on its axis, a state of another lesion).
        findings: what could not be used, or deserves a look.
    """

    tu: pd.DataFrame
    tr: pd.DataFrame
    findings: list[Finding] = field(default_factory=list)


def read_assessments(
    tu: pd.DataFrame, tr: pd.DataFrame, study: Study, subjects: pd.DataFrame, evaluator: str | None
) -> Assessments:
    """Chooses one evaluator's lesions and measurements, and leaves out, with a finding, what cannot be used.

    Args:
        tu: TU.
        tr: TR up to the cut-off.
        study: imputation of assessment dates.
        subjects: on USUBJID: BIRTH (first possible day), LSTWHOLE (the last complete date alive).
        evaluator: whose rows count beside those that name nobody; None: all rows.
    """
    found: list[Finding] = []
    if evaluator is not None:
        tu, tr = read_by(tu, "TU", evaluator), read_by(tr, "TR", evaluator)
    lesions = _lesions(tu, tr, found)
    rows = tr[tr["TRTESTCD"].isin(["LDIAM", "LPERP", "TUMSTATE"])].copy()

    def leave_out(bad: pd.Series[bool], code: str, text: str) -> None:
        nonlocal rows
        found.extend(of_subjects(code, text, rows.loc[bad, "USUBJID"], "rows"))
        rows = rows[~bad]

    leave_out(
        rows["TRLNKID"].isna(), "lesion-without-identity", "a measurement does not say which lesion it is of"
    )
    known = pd.MultiIndex.from_frame(lesions[["USUBJID", "TULNKID"]])
    listed = pd.MultiIndex.from_frame(rows[["USUBJID", "TRLNKID"]]).isin(known)
    leave_out(
        pd.Series(~listed, index=rows.index),
        "lesion-without-role",
        "a measurement is of a lesion that is neither target, non-target nor new",
    )
    dates = read_dates(rows["TRDTC"])
    birth = rows["USUBJID"].map(subjects["BIRTH"])
    alive = rows["USUBJID"].map(subjects["LSTWHOLE"])
    rows["ADT"] = impute_dates(dates, study.imputation.response, lower=(birth,), upper=(alive,))["DATE"]
    leave_out(
        rows["ADT"].isna(),
        "assessment-without-date",
        "a tumour assessment has no complete date and the study does not impute it",
    )

    role = lesions.set_index(["USUBJID", "TULNKID"])[["TUSTRESC", "NODAL"]]
    role.index.names = ["USUBJID", "TRLNKID"]
    rows = rows.drop(columns="VISIT").assign(VISIT=rows["VISIT"]).join(role, on=["USUBJID", "TRLNKID"])
    rows = rows.rename(columns={"TUSTRESC": "ROLE"})
    rows = rows.assign(ASSESSED=_assessed(rows, found))
    columns = [
        "USUBJID",
        "TRLNKID",
        "VISIT",
        "ADT",
        "TRTESTCD",
        "TRSTRESN",
        "TRSTRESC",
        "TRSEQ",
        "ROLE",
        "NODAL",
    ]
    rows = rows[[*columns, "ASSESSED"]].reset_index(drop=True)
    lesions = lesions[lesions["USUBJID"].isin(subjects.index)].reset_index(drop=True)
    return Assessments(lesions, rows, found)


def _lesions(tu: pd.DataFrame, tr: pd.DataFrame, found: list[Finding]) -> pd.DataFrame:
    """One row per lesion; two roles of one lesion, and too many targets, are findings.

    Fragments and merged lesions that only TR names are added; they are no targets more.
    """
    table = tu[["USUBJID", "TULNKID", "TUSTRESC", "TULOC", "TUSEQ"]].assign(NODAL=tu["TUNODAL"].eq("Y"))
    known = table["TUSTRESC"].isin(["TARGET", "NON-TARGET", "NEW"]) & table["TULNKID"].notna()
    table = table[known].sort_values(["USUBJID", "TULNKID", "TUSEQ"], kind="stable")
    roles = table.groupby(["USUBJID", "TULNKID"])[["TUSTRESC", "NODAL"]].nunique()
    text = "a lesion is listed with two roles, or as a node and not; the first one recorded counts"
    two = roles.index[(roles > 1).any(axis=1)]
    found += per_subject("lesion-with-two-roles", text, two.get_level_values("USUBJID"))
    table = table.drop_duplicates(["USUBJID", "TULNKID"]).reset_index(drop=True)
    piece = pd.Series(False, index=table.index)
    if has_pieces(table["TULNKID"].unique(), tr["TRLNKID"].unique()):
        more = list_pieces(table, tr[tr["TRLNKID"].notna()]).iloc[len(table) :]
        table = pd.concat([table.astype(object), more.astype(object)], ignore_index=True)
        table = table.astype({"NODAL": bool, "TUSEQ": "Int64"})
        pieces = link_pieces(pd.factorize(table["USUBJID"])[0], table["TULNKID"].to_numpy(dtype=object))
        piece = pd.Series(pieces.is_piece(len(table)), index=table.index)
    targets = table[(table["TUSTRESC"] == "TARGET") & ~piece]
    many = targets.groupby("USUBJID").size()
    text = f"more than {MAX_TARGETS} target lesions"
    found += per_subject("too-many-targets", text, many.index[many > MAX_TARGETS])
    # Nodes of all regions are one organ (FAQ, two target lesions).
    organ = targets["TULOC"].where(~targets["NODAL"] | targets["TULOC"].isna(), "LYMPH NODE")
    placed = targets.assign(ORGAN=organ.astype("string").str.strip().str.upper())
    crowded = placed[placed["ORGAN"].notna()].groupby(["USUBJID", "ORGAN"]).size()
    crowded = crowded[crowded > MAX_TARGETS_PER_ORGAN]
    text = f"more than {MAX_TARGETS_PER_ORGAN} target lesions in one organ"
    found += per_subject("too-many-targets-in-organ", text, crowded.index.get_level_values("USUBJID"))
    return table


def _assessed(rows: pd.DataFrame, found: list[Finding]) -> pd.Series[bool]:
    """Whether a row says something; unreadable values become null, each kind with a finding."""
    text = rows["TRSTRESC"].astype("string").str.strip().str.upper()
    size = pd.to_numeric(rows["TRSTRESN"])
    wrong = size.notna() & ((size < 0) | np.isinf(size))
    found += per_subject("impossible-size", "a lesion's size is negative", rows.loc[wrong, "USUBJID"])
    rows.loc[wrong, "TRSTRESN"] = np.nan
    is_state = rows["TRTESTCD"] == "TUMSTATE"
    unknown = is_state & rows["TRSTRESC"].notna() & ~text.isin(_STATES)
    text_ = "a state of a lesion is none that RECIST knows"
    found += per_subject("unknown-tumour-state", text_, rows.loc[unknown, "USUBJID"])
    rows.loc[unknown, "TRSTRESC"] = None
    sized = (size.notna() & ~wrong) | text.str.fullmatch(_TOO_SMALL).fillna(False).astype(bool)
    target = rows["ROLE"] == "TARGET"
    axis = rows["NODAL"].map({True: "LPERP", False: "LDIAM"})
    other_axis = target & sized & ~is_state & (rows["TRTESTCD"] != axis)
    measured = target & sized & ~is_state & (rows["TRTESTCD"] == axis)
    state = ~target & ((is_state & text.isin(_STATES)) | (~is_state & sized))
    pairs = pd.MultiIndex.from_frame(rows[["USUBJID", "TRLNKID"]])
    never = other_axis & ~pairs.isin(pairs[measured])
    text_ = "a target has a size only on the axis that does not count (nodes: short; others: longest)"
    found += per_subject("target-on-other-axis", text_, rows.loc[never, "USUBJID"])
    said: pd.Series[bool] = (measured | state).astype(bool)
    return said


def assign_visits(rows: pd.DataFrame, window_days: int, start: pd.Series[Any]) -> pd.Series[Any]:
    """The visit of each assessment.

    Assessments of one label within `window_days` of the visit's first scan are one visit; later ones are a
    new visit, `LABEL (2)` and so on. An assessment without a label belongs to the labelled visit whose first
    scan is at most `window_days` before it; the others are put together by date alone and named `ASSESSMENT
    1`, `ASSESSMENT 2` …; a scan before the start of treatment and one after it are never put together by
    date.

    Args:
        rows: USUBJID, VISIT (missing where there is no label), ADT.
        window_days: days that the scans of a visit lie apart at most.
        start: on USUBJID, the day of the first dose (or of randomisation).

    Returns:
        The visit's name on the index of `rows`, unique per subject and visit.
    """
    result = pd.Series(None, index=rows.index, dtype="object")
    if rows.empty:
        return result
    subject = pd.Series(pd.factorize(rows["USUBJID"])[0], index=rows.index)
    day = (rows["ADT"] - pd.Timestamp("1970-01-01")).dt.days.astype("int64")
    label = rows["VISIT"].where(rows["VISIT"].astype("string").str.strip().ne("").fillna(False))
    labelled = label.notna()
    after = day > (rows["USUBJID"].map(start) - pd.Timestamp("1970-01-01")).dt.days
    if labelled.any():
        codes, _ = pd.factorize(label[labelled])
        group = subject[labelled].to_numpy() * (codes.max() + 1) + codes
        rank = cluster_days(group, day[labelled].to_numpy(), window_days)
        name = label[labelled].astype(str)
        result[labelled] = name.where(
            rank == 0, name + " (" + pd.Series(rank + 1, index=name.index).astype(str) + ")"
        )
    if not labelled.all():
        result = _join_labelled(result, subject, day, after, window_days)
    rest = result.isna()
    if rest.any():
        group = subject[rest].to_numpy() * 2 + after[rest].to_numpy()
        rank = cluster_days(group, day[rest].to_numpy(), window_days)
        # Numbered through over both sides of the start.
        before = pd.Series(np.where(after[rest], 0, rank + 1)).groupby(subject[rest].to_numpy()).max()
        offset = np.where(after[rest], before.reindex(subject[rest]).to_numpy(), 0)
        result[rest] = [f"ASSESSMENT {place}" for place in rank + 1 + offset]
    return result


def _join_labelled(
    visit: pd.Series[Any],
    subject: pd.Series[Any],
    day: pd.Series[Any],
    after: pd.Series[Any],
    window_days: int,
) -> pd.Series[Any]:
    """Puts unlabelled assessments into the labelled visit that began at most `window_days` before them."""
    table = pd.DataFrame({"subject": subject, "day": day, "after": after, "visit": visit})
    first = (
        table[table["visit"].notna()].groupby(["subject", "visit"], as_index=False)[["day", "after"]].min()
    )
    loose = table[table["visit"].isna()].drop(columns="visit")
    if first.empty or loose.empty:
        return visit
    joined = pd.merge_asof(
        loose.reset_index().sort_values(["day", "index"]),
        first.sort_values(["day", "visit"]),
        on="day",
        by=["subject", "after"],
        tolerance=window_days,
    ).set_index("index")["visit"]
    return visit.where(visit.notna(), joined.reindex(visit.index))


def cluster_days(group: npt.NDArray[Any], day: npt.NDArray[Any], window_days: int) -> Ints:
    """Number (from 0) of each row's cluster in its group: a first day and `window_days` after it.

    Args:
        group: the group of each row, an integer.
        day: the day of each row, an integer.
        window_days: the last day of a cluster is at most so many days after its first; the next day opens a
            new one.
    """
    if not len(day):
        return np.empty(0, dtype=np.int64)
    order = np.lexsort((day, group))
    in_group = np.unique(group[order], return_inverse=True)[1].astype(np.int64)
    days = day[order] - day.min()
    # Groups lie so far apart on this axis that a cluster cannot reach from one into the next.
    axis = in_group * (int(days.max()) + window_days + 1) + days
    after_cluster = np.searchsorted(axis, axis + window_days, side="right")
    opens = np.zeros(len(axis), dtype=np.bool_)
    current = np.flatnonzero(np.append(True, in_group[1:] != in_group[:-1]))
    opens[current] = True
    while len(current):
        following = after_cluster[current]
        inside = following < len(axis)
        current, following = current[inside], following[inside]
        current = following[in_group[following] == in_group[current]]
        opens[current] = True
    number = np.cumsum(opens)
    first = number[np.searchsorted(in_group, in_group)]
    result = np.empty(len(axis), dtype=np.int64)
    result[order] = number - first
    return result


def impossible_scans(tr: pd.DataFrame, birth: pd.Series[Any], death: pd.Series[Any]) -> list[Finding]:
    """Findings for subjects with scans before birth or after death (only complete dates are compared)."""
    cases = (
        (
            "scan-before-birth",
            "a tumour assessment is dated before birth",
            tr["ADT"] < tr["USUBJID"].map(birth),
        ),
        (
            "scan-after-death",
            "a tumour assessment is dated after death",
            tr["ADT"] > tr["USUBJID"].map(death),
        ),
    )
    return [
        finding for code, text, bad in cases for finding in per_subject(code, text, tr.loc[bad, "USUBJID"])
    ]
