"""Response records, one per subject and day up to the cut, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from fhir_adapter.derive.recist.columns import (
    NO_DAY,
    calendar_days,
    days_to_dates,
    require_columns,
    spread,
)
from fhir_adapter.derive.recist.segments import run_starts
from fhir_adapter.derive.recist.vocabulary import RECORD_RESPONSES, WORST_OF_A_DAY

__all__ = [
    "CR",
    "ND",
    "NE",
    "NON",
    "PD",
    "PR",
    "SD",
    "Records",
    "first_per_subject",
    "read_records",
    "result",
]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

# The codes of the responses are their places in the order of best response.
CR, PR, SD, NON, PD, NE, ND = range(7)
_CODES: Final = {word: code for code, word in enumerate(RECORD_RESPONSES)}
_BADNESS: Final = np.array([WORST_OF_A_DAY.index(word) for word in RECORD_RESPONSES], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Records:
    """The records that count, sorted by subject and day; at most one per subject and day.

    Attributes:
        subjects: USUBJID of each subject of the reference, ascending.
        reference_day: per subject the reference date, NO_DAY if it has none.
        subject: per record the subject's position.
        day: per record the day of the assessment.
        response: per record the code of the response, its place in the order of best response.
    """

    subjects: pd.Index[Any]
    reference_day: Ints
    subject: Ints
    day: Ints
    response: Ints

    def in_window(self, days: int) -> Bools:
        """Per record whether it is `days` or more after the reference date; no without such a date."""
        reference = self.reference_day[self.subject]
        # NO_DAY is the smallest integer: compared as a day everything would be late enough.
        return np.asarray((reference != NO_DAY) & (self.day - days >= reference))


def read_records(rs: pd.DataFrame, reference: pd.DataFrame, pd_dates: pd.DataFrame | None) -> Records:
    """Reads, cuts at PD and keeps the worst record of each day.

    Args:
        rs: USUBJID, ADT, AVALC.
        reference: USUBJID, ADT; one row per subject.
        pd_dates: USUBJID, ADT of progressions, the earliest of a subject cuts; None: the first PD in `rs`.

    Raises:
        ValueError: an AVALC that is not a response (named), a record without a date, a subject twice in
            `reference`.
    """
    require_columns(rs, ("USUBJID", "ADT", "AVALC"), "rs")
    require_columns(reference, ("USUBJID", "ADT"), "reference")
    response = spread(rs["AVALC"], lambda value: _CODES.get(value, -1), -1)
    if (response < 0).any():
        _refuse_unknown(rs["AVALC"])
    day = calendar_days(rs["ADT"], "rs's ADT")
    undated = np.count_nonzero(day == NO_DAY)
    if undated:
        raise ValueError(f"rs has {undated} records without ADT")

    if reference["USUBJID"].isna().any():
        raise ValueError("reference has a row without USUBJID")
    subjects = pd.Index(reference["USUBJID"].to_numpy())
    reference_day = calendar_days(reference["ADT"], "reference's ADT")
    if not subjects.is_monotonic_increasing:
        order = subjects.argsort()
        subjects, reference_day = subjects.take(order), reference_day[order]
    if not subjects.is_unique:
        raise ValueError("reference has a subject twice")

    subject = _positions(subjects, rs["USUBJID"])
    cut = np.full(len(subjects), np.iinfo(np.int64).max, dtype=np.int64)
    if pd_dates is None:
        cut_subject, cut_day = subject[response == PD], day[response == PD]
    else:
        require_columns(pd_dates, ("USUBJID", "ADT"), "pd")
        cut_subject = _positions(subjects, pd_dates["USUBJID"])
        cut_day = calendar_days(pd_dates["ADT"], "pd's ADT")
    cuts = (cut_subject >= 0) & (cut_day != NO_DAY)
    np.minimum.at(cut, cut_subject[cuts], cut_day[cuts])

    counted = subject >= 0
    counted[counted] = day[counted] <= cut[subject[counted]]
    subject, day, response = subject[counted], day[counted], response[counted]
    # By subject, day and badness, in one key: the last record of a day is then the worst.
    earliest, latest = day.min(initial=0), day.max(initial=0)
    day_key = subject * (latest - earliest + 1) + (day - earliest)
    order = np.argsort(day_key * len(_BADNESS) + _BADNESS[response], kind="stable")
    subject, day, response, day_key = subject[order], day[order], response[order], day_key[order]
    worst = np.ones(len(subject), dtype=np.bool_)
    worst[:-1] = day_key[1:] != day_key[:-1]
    return Records(subjects, reference_day, subject[worst], day[worst], response[worst])


def _refuse_unknown(avalc: pd.Series[Any]) -> None:
    unknown = sorted({repr(value) for value in avalc.unique() if value not in _CODES})
    raise ValueError(f"AVALC is {', '.join(unknown)}; it can be {', '.join(_CODES)}")


def _positions(subjects: pd.Index[Any], column: pd.Series[Any]) -> Ints:
    """Per row the position of its subject; -1 for a subject that is not in the reference."""
    row_codes, distinct = pd.factorize(column)
    table = subjects.get_indexer(pd.Index(distinct)) if len(distinct) else np.empty(0, dtype=np.int64)
    return np.append(table, -1)[row_codes].astype(np.int64)


def first_per_subject(records: Records, rank: Ints, nothing: int) -> tuple[Ints, Ints]:
    """The best record of each subject: the lowest rank, and of those the earliest.

    Args:
        records: the records.
        rank: per record what it counts as; lower is better.
        nothing: the rank of a subject without records.

    Returns:
        Per subject the rank, and the day of the first record of that rank (NO_DAY without records).
    """
    best = np.full(len(records.subjects), nothing, dtype=np.int64)
    day = np.full(len(records.subjects), NO_DAY, dtype=np.int64)
    # The sort is stable and the records are in order of date.
    order = np.argsort(records.subject * (nothing + int(rank.max(initial=0)) + 1) + rank, kind="stable")
    first = order[run_starts(records.subject[order])]
    best[records.subject[first]] = rank[first]
    day[records.subject[first]] = records.day[first]
    return best, day


def result(records: Records, words: npt.NDArray[np.object_], day: Ints) -> pd.DataFrame:
    """The frame of a best response or an objective response: USUBJID, AVALC, ADT."""
    return pd.DataFrame({"USUBJID": records.subjects, "AVALC": words, "ADT": days_to_dates(day)})
