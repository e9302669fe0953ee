"""Which responses are confirmed (Eisenhauer 2009, 4.4.3, Table 3, and 4.6)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fhir_adapter.derive.recist.records import CR, ND, NE, NON, PD, PR, SD, Records

__all__ = ["confirmed_responses"]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def confirmed_responses(
    records: Records, *, ref_confirm: int, max_nr_ne: int, accept_sd: bool
) -> tuple[Bools, Bools]:
    """The CR and the PR records that a later record confirms.

    CR: a CR at least `ref_confirm` days later, with only CR and at most `max_nr_ne` NE between. PR: a CR or
    PR at least `ref_confirm` days later; between them only CR, PR, SD and NE, at most `max_nr_ne` NE, no SD
    (one with `accept_sd`); and no PR after a CR among the records after the PR up to and including the
    confirming one.

    The first candidate that is late enough decides: what stands between a record and a later candidate
    includes all that stands before an earlier one, so that no later candidate can confirm where the first
    fails.

    Returns:
        Two flags per record: confirmed as CR, confirmed as PR.
    """
    response = records.response
    count = len(response)
    late = _first_late_enough(records, ref_confirm)
    is_cr, is_pr = response == CR, response == PR
    ends = np.append(records.subject, -1)

    def candidate(flag: Bools) -> tuple[Ints, Bools]:
        at = _next_at_or_after(flag)[late]
        return np.minimum(at, max(0, count - 1)), ends[at] == records.subject

    def between(flag: Bools, until: Ints) -> Ints:
        """The number of records with the flag strictly between each record and `until`."""
        upto = np.cumsum(flag)
        return upto[until] - flag[until] - upto

    by, exists = candidate(is_cr)
    confirmed_cr = (
        is_cr
        & exists
        & (between((response != CR) & (response != NE), by) == 0)
        & (between(response == NE, by) <= max_nr_ne)
    )

    by, exists = candidate(is_cr | is_pr)
    breaks = (response == NON) | (response == PD) | (response == ND)
    next_cr = np.append(_next_at_or_after(is_cr), count)[1 : count + 1]  # the first CR after the record
    last_pr = np.maximum.accumulate(np.where(is_pr, np.arange(count), -1))[by] if count else by
    confirmed_pr = (
        is_pr
        & exists
        & (between(breaks, by) == 0)
        & (between(response == NE, by) <= max_nr_ne)
        & (between(response == SD, by) <= int(accept_sd))
        & ~((next_cr <= by) & (next_cr < last_pr))
    )
    return confirmed_cr, confirmed_pr


def _first_late_enough(records: Records, ref_confirm: int) -> Ints:
    """Per record the position of the subject's first record that is `ref_confirm` days or more later.

    Where there is none: the position of the next subject's first record, or the number of records.
    """
    if not len(records.day):
        return np.empty(0, dtype=np.int64)
    day = records.day - records.day.min()
    # One ascending key over all subjects: a subject's days end before the next one's begin, even with the
    # delay added.
    stride = int(day.max()) + ref_confirm + 1
    key = records.subject * stride + day
    found = np.searchsorted(key, key + ref_confirm)
    return np.asarray(np.maximum(found, np.arange(len(key)) + 1))


def _next_at_or_after(flag: Bools) -> Ints:
    """Per position, and one past the end, the next position with the flag; the length if none."""
    count = len(flag)
    positions = np.where(flag, np.arange(count), count)
    return np.append(np.minimum.accumulate(positions[::-1])[::-1], count)
