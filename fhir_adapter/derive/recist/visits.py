"""Response at each visit by RECIST 1.1 (Eisenhauer 2009, 4.3 and 4.4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from fhir_adapter.derive.recist.columns import days_to_dates
from fhir_adapter.derive.recist.lesions import (
    ABSENT,
    EQUIVOCAL,
    NEW,
    NON_TARGET,
    PRESENT,
    TARGET,
    UNEQUIVOCAL,
    Lesions,
    read_lesions,
)
from fhir_adapter.derive.recist.segments import (
    any_before,
    cumulative_max,
    cumulative_sum,
    last_before,
    min_before,
    run_starts,
)
from fhir_adapter.derive.recist.vocabulary import NODE_NORMAL_BELOW_UM, PD_ABSOLUTE_UM, RULES

__all__ = [
    "assessed_lesions",
    "grade",
    "visit_responses",
]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_NONE, _CR, _PR, _SD, _NON, _PD, _NE = range(7)
_WORDS: Final = np.array([None, "CR", "PR", "SD", "NON-CR/NON-PD", "PD", "NE"], dtype=object)
_RULE_NAMES: Final = tuple(RULES)
_RULE_WORDS: Final = np.array(_RULE_NAMES, dtype=object)
_FAR: Final[int] = int(np.iinfo(np.int64).max)

# The findings that can make a visit PD, in the order that names the rule where several fall on one day.
_PD_RULES: Final = (
    "PD-TARGET-SUM",
    "PD-TARGET-REAPPEARED",
    "PD-NONTARGET-UNEQUIVOCAL",
    "PD-NONTARGET-REAPPEARED",
    "PD-NEW-LESION",
)


def visit_responses(
    tu: pd.DataFrame, tr: pd.DataFrame, *, sustained_pr: bool = True, reappearance_is_pd: bool = True
) -> pd.DataFrame:
    """Grades every visit of every subject by RECIST 1.1 (Eisenhauer 2009, sections 4.3 and 4.4.1).

    Args:
        tu: one row per lesion. USUBJID; TULNKID, the lesion; TUSTRESC: TARGET, NON-TARGET or NEW; NODAL: true
            for a lymph node. A lesion may be listed again with the same role.
        tr: one row per lesion, scan and test. USUBJID; TRLNKID, the lesion; VISIT; ADT, the day of the scan
            (datetime64, dates or complete ISO texts); TRTESTCD: LDIAM (longest diameter), LPERP (short axis)
            or TUMSTATE, other tests are ignored; TRSTRESN, mm (or by TRSTRESU, mm or cm, if there is such a
            column); TRSTRESC: ABSENT, PRESENT, EQUIVOCAL, UNEQUIVOCAL for TUMSTATE; TOO SMALL TO MEASURE (or
            `< 5 mm`) for a lesion that is seen but cannot be measured: 5 mm. Neither a number nor such a
            text: not assessed, as is a lesion without a row. A lesion with several rows at a visit has the
            largest size and the worst state of them. `T01.1` and `T01.2` are fragments of `T01`, of which the
            sum counts, `T01/T02` is what `T01` and `T02` merged into (4.3.2; `recist.pieces`); TU need not
            list them.
        sustained_pr: a target PR (or CR) holds until target PD even if the sum is no longer 30 % below the
            baseline (EORTC FAQ, definition of SD). False: each visit by threshold.
        reappearance_is_pd: after a target CR a non-nodal target that is seen again is PD, as is, after an
            overall CR, a non-target that is PRESENT again (note of Table 3). False: by 20 % and 5 mm, and
            UNEQUIVOCAL, alone.

    Returns:
        One row per subject and visit, by USUBJID and date of the visit's first scan:

        - USUBJID, VISIT.
        - ADT (datetime64[ns]): for PD the earliest scan whose finding makes it PD, otherwise the visit's
          latest scan. A new lesion that was EQUIVOCAL at an earlier visit dates the PD of the visit that
          confirms it from its first scan (4.3.5); the earlier visit keeps its response.
        - SUMDIAM (mm): sum of the diameters that were assessed: a partial sum if some were not; NaN if none
          was.
        - BASE (mm): the sum at the subject's first visit; NaN if a target was not assessed there.
        - NADIR (mm): the smallest sum of the fully assessed earlier visits, baseline included; NaN if there
          is none.
        - TRGRESP: CR, PR, SD, PD, NE; None for a subject without targets.
        - NTRGRESP: CR, NON-CR/NON-PD, PD, NE; None for a subject without non-targets.
        - NEWLPROG: Y if a new lesion is definite (PRESENT or UNEQUIVOCAL) at the visit, else N.
        - OVRLRESP: CR, PR, SD, NON-CR/NON-PD, PD, NE.
        - RULE: the rule that decided OVRLRESP, a key of `vocabulary.RULES`; of several that make PD the
          earliest one.

        The first visit of a subject is the baseline: its four responses and its NADIR are None or NaN. Visits
        after PD are graded too; the functions of best response cut.

    Raises:
        ValueError: a column or value is not as above, a visit has no date at all, or TR names a lesion that
            is not in TU.
    """
    return grade(read_lesions(tu, tr), sustained_pr=sustained_pr, reappearance_is_pd=reappearance_is_pd)


def assessed_lesions(tu: pd.DataFrame, tr: pd.DataFrame) -> pd.DataFrame:
    """Counts, for each visit, the lesions that were assessed (Eisenhauer 2009, 4.4.2).

    Args:
        tu: as in `visit_responses`.
        tr: as in `visit_responses`.

    Returns:
        One row per subject and visit, as `visit_responses` orders them: USUBJID, VISIT, FIRST and LAST (days of
        its scans), TARGETS and NONTARGETS (of the subject), TARGETS_SEEN and NONTARGETS_SEEN (assessed at the
        visit; a lesion in pieces counts once, when all of it was).

    Raises:
        ValueError: as `visit_responses`.
    """
    lesions = read_lesions(tu, tr)
    role = lesions.lesion_role[lesions.row_lesion]
    targets = _targets(lesions, np.flatnonzero((lesions.row_um >= 0) & (role == TARGET)))
    rows = np.flatnonzero((role == NON_TARGET) & (lesions.row_state > 0))
    return pd.DataFrame(
        {
            "USUBJID": lesions.subjects.take(lesions.visit_subject),
            "VISIT": lesions.visit_label,
            "FIRST": days_to_dates(lesions.visit_first),
            "LAST": days_to_dates(lesions.visit_last),
            "TARGETS": targets.expected,
            "TARGETS_SEEN": targets.assessed,
            "NONTARGETS": lesions.lesions_per_subject(NON_TARGET)[lesions.visit_subject],
            "NONTARGETS_SEEN": _distinct(
                lesions.row_visit[rows], lesions.row_lesion[rows], len(lesions.visit_subject)
            ),
        }
    )


@dataclass(frozen=True, eq=False)
class _Targets:
    """Per visit what the targets show."""

    total: Ints  # sum of what was measured, 0.001 mm
    measured: Bools  # something was measured, perhaps one fragment of several
    assessed: Ints  # number of targets assessed
    expected: Ints  # number of targets of the subject
    seen: Bools  # a non-nodal target is larger than 0
    enlarged: Bools  # a nodal target is 10 mm or more

    @property
    def complete(self) -> Bools:
        return np.asarray((self.expected > 0) & (self.assessed == self.expected))

    @property
    def gone(self) -> Bools:
        return np.asarray(self.complete & ~self.seen & ~self.enlarged)


def grade(lesions: Lesions, *, sustained_pr: bool, reappearance_is_pd: bool) -> pd.DataFrame:
    """The rows of `visit_responses` for lesions that were read."""
    starts = run_starts(lesions.visit_subject)
    after = ~starts  # visits after the baseline
    role = lesions.lesion_role[lesions.row_lesion]
    nodal = lesions.lesion_nodal[lesions.row_lesion]
    visits = len(lesions.visit_subject)

    # Targets (4.3.1).
    targets = _targets(lesions, np.flatnonzero((lesions.row_um >= 0) & (role == TARGET)))
    ceiling = int(targets.total.max(initial=0)) + 1
    sums = np.where(targets.complete, targets.total, ceiling)
    base = sums[starts][np.cumsum(starts) - 1]
    has_base = base < ceiling
    nadir = min_before(sums, starts, ceiling)
    graded = after & (targets.expected > 0) & has_base
    grown = graded & targets.measured & _is_progression(targets.total, nadir)
    is_cr = graded & targets.gone
    returned = graded & targets.seen & any_before(is_cr, starts) & reappearance_is_pd
    is_pd = ~is_cr & (grown | returned)
    is_ne = after & (targets.expected > 0) & ~is_cr & ~is_pd & (~has_base | ~targets.complete)
    open_ = graded & ~is_cr & ~is_pd & ~is_ne
    shrunk = open_ & (10 * targets.total <= 7 * base)
    held = np.zeros(visits, dtype=np.bool_)
    if sustained_pr:
        last = last_before(is_cr | shrunk | is_pd, starts)
        held = open_ & ~shrunk & (last >= 0) & ~is_pd[last]
    target = np.select([is_cr, is_pd, is_ne, shrunk | held, open_], [_CR, _PD, _NE, _PR, _SD], _NONE)

    # Non-targets (4.3.3).
    rows = np.flatnonzero((role == NON_TARGET) & (lesions.row_state > 0))
    state, visit, day = lesions.row_state[rows], lesions.row_visit[rows], lesions.row_day[rows]
    expected = lesions.lesions_per_subject(NON_TARGET)[lesions.visit_subject]
    some = expected > 0
    everything = _distinct(visit, lesions.row_lesion[rows], visits) == expected
    persists = _any(visit[state > ABSENT], visits)
    all_absent = some & everything & ~persists

    # New lesions (4.3.5), and the visits in overall CR (4.4.1), which do not depend on what came before.
    new_rows, new_day = _new_lesion_rows(lesions, role, after)
    definite = _any(lesions.row_visit[new_rows], visits)
    in_cr = after & ~definite & np.where(targets.expected > 0, is_cr & (all_absent | ~some), all_absent)
    unequivocal = state == UNEQUIVOCAL
    back = (state == PRESENT) & (any_before(in_cr, starts) & reappearance_is_pd)[visit]
    non_target_pd = after & _any(visit[unequivocal | back], visits)
    non_target = np.select(
        [~(after & some), non_target_pd, ~everything, persists], [_NONE, _PD, _NE, _NON], _CR
    )

    # The day of each finding that makes the visit PD; the earliest decides date and rule.
    days = np.full((len(_PD_RULES), visits), _FAR, dtype=np.int64)
    _sum_progression_days(lesions, is_pd & grown, nadir, days[0])
    rows_back = np.flatnonzero(
        (lesions.row_um > 0) & (role == TARGET) & ~nodal & (is_pd & returned)[lesions.row_visit]
    )
    np.minimum.at(days[1], lesions.row_visit[rows_back], lesions.row_day[rows_back])
    np.minimum.at(days[2], visit[unequivocal], day[unequivocal])
    np.minimum.at(days[3], visit[back], day[back])
    np.minimum.at(days[4], lesions.row_visit[new_rows], new_day)
    days[:, starts] = _FAR
    deciding = days.argmin(axis=0)
    pd_day = days[deciding, np.arange(visits)]
    progressed = pd_day < _FAR

    overall, rule = _overall(target, non_target, progressed, after, has_base, held)
    rule = np.where(progressed, np.array([_RULE_NAMES.index(name) for name in _PD_RULES])[deciding], rule)
    no_response = np.array([None], dtype=object)
    return pd.DataFrame(
        {
            "USUBJID": lesions.subjects.take(lesions.visit_subject),
            "VISIT": lesions.visit_label,
            "ADT": days_to_dates(np.where(progressed, pd_day, lesions.visit_last)),
            "SUMDIAM": np.where(targets.measured, targets.total / 1000, np.nan),
            "BASE": np.where(has_base, base / 1000, np.nan),
            "NADIR": np.where(after & (nadir < ceiling), nadir / 1000, np.nan),
            "TRGRESP": _WORDS[target],
            "NTRGRESP": _WORDS[non_target],
            "NEWLPROG": np.where(after, np.where(definite, "Y", "N").astype(object), no_response),
            "OVRLRESP": _WORDS[overall],
            "RULE": _RULE_WORDS[rule],
        },
        copy=False,
    )


def _is_progression(total: Ints, nadir: Ints) -> Bools:
    """4.3.1: at least 20 % above the nadir and at least 5 mm; exact, in integers of 0.001 mm."""
    increase = total - nadir
    return np.asarray((5 * increase >= nadir) & (increase >= PD_ABSOLUTE_UM))


def _any(visit: Ints, visits: int) -> Bools:
    """Per visit whether it is among `visit`."""
    found = np.zeros(visits, dtype=np.bool_)
    found[visit] = True
    return found


def _distinct(visit: Ints, lesion: Ints, visits: int) -> Ints:
    """Per visit the number of different lesions."""
    cell = np.sort(visit * (int(lesion.max(initial=0)) + 1) + lesion, kind="stable")
    cell = cell[run_starts(cell)]
    return np.bincount(cell // (int(lesion.max(initial=0)) + 1), minlength=visits).astype(np.int64)


def _targets(lesions: Lesions, rows: Ints) -> _Targets:
    """Sums and counts of the targets per visit; `rows` are the findings with a size."""
    visits = len(lesions.visit_subject)
    visit, lesion, size = lesions.row_visit[rows], lesions.row_lesion[rows], lesions.row_um[rows]
    # Of several measurements of a lesion at a visit the largest, the worst, counts.
    cell = visit * max(1, len(lesions.lesion_role)) + lesion
    order = np.argsort(cell, kind="stable")
    starts = np.flatnonzero(run_starts(cell[order]))
    visit, lesion = visit[order][starts], lesion[order][starts]
    if len(starts):
        size = np.maximum.reduceat(size[order], starts)
    nodal = lesions.lesion_nodal[lesion]
    assessed = np.bincount(visit, minlength=visits).astype(np.int64)
    if (lesions.lesion_subject < 0).any():
        # Pieces are measured for the lesions that they are of.
        whole = lesions.lesion_subject[lesion] >= 0
        at = np.concatenate([visit[whole], lesions.pieces_visit])
        of = np.concatenate([lesion[whole], lesions.pieces_lesion])
        assessed = _distinct(at, of, visits)
    return _Targets(
        # Sums of integers below 2**53 are exact in floating point.
        total=np.bincount(visit, weights=size, minlength=visits).astype(np.int64),
        measured=_any(visit, visits),
        assessed=assessed,
        expected=lesions.lesions_per_subject(TARGET)[lesions.visit_subject],
        seen=_any(visit[~nodal & (size > 0)], visits),
        enlarged=_any(visit[nodal & (size >= NODE_NORMAL_BELOW_UM)], visits),
    )


def _new_lesion_rows(lesions: Lesions, role: Ints, after: Bools) -> tuple[Ints, Ints]:
    """The findings that show a definite new lesion, and the day that each dates its PD from (4.3.5)."""
    is_new = (role == NEW) & after[lesions.row_visit]
    rows = np.flatnonzero(is_new & (lesions.row_state >= PRESENT))
    suspected = np.flatnonzero(is_new & (lesions.row_state == EQUIVOCAL))
    lesion, visit, day = lesions.row_lesion[rows], lesions.row_visit[rows], lesions.row_day[rows]
    if not len(suspected):
        return rows, day
    confirmed_at = np.full(len(lesions.lesion_role), _FAR, dtype=np.int64)
    np.minimum.at(confirmed_at, lesion, visit)
    first_scan = np.full(len(lesions.lesion_role), _FAR, dtype=np.int64)
    np.minimum.at(first_scan, lesions.row_lesion[suspected], lesions.row_day[suspected])
    # Only the visit that confirms the lesion is dated back; visits are in order of date, so it is the first.
    return rows, np.where(visit == confirmed_at[lesion], np.minimum(day, first_scan[lesion]), day)


def _sum_progression_days(lesions: Lesions, grown: Bools, nadir: Ints, days: Ints) -> None:
    """Sets, for visits whose sum is PD, the day by which what was scanned made it so."""
    days[grown] = lesions.visit_last[grown]
    several_days = grown & (lesions.visit_first < lesions.visit_last)
    is_target = lesions.lesion_role[lesions.row_lesion] == TARGET
    rows = np.flatnonzero((lesions.row_um >= 0) & is_target & several_days[lesions.row_visit])
    if not len(rows):
        return
    visit, lesion = lesions.row_visit[rows], lesions.row_lesion[rows]
    day, size = lesions.row_day[rows], lesions.row_um[rows]
    # What each scan adds to the sum: the part by which a lesion exceeds its largest earlier size at the
    # visit.
    order = np.lexsort((day, lesion, visit))
    visit, lesion, day, size = visit[order], lesion[order], day[order], size[order]
    starts = run_starts(visit) | run_starts(lesion)
    largest = cumulative_max(size, starts)
    added = largest.copy()
    added[1:] -= np.where(starts[1:], 0, largest[:-1])
    order = np.lexsort((day, visit))
    visit, day, added = visit[order], day[order], added[order]
    shown = _is_progression(cumulative_sum(added, run_starts(visit)), nadir[visit])
    np.minimum.at(days, visit[shown], day[shown])


def _overall(
    target: Ints, non_target: Ints, progressed: Bools, after: Bools, has_base: Bools, held: Bools
) -> tuple[Ints, Ints]:
    """4.4.1: Table 1 for subjects with targets, Table 2 for subjects without; the response and its rule."""
    no_targets = target == _NONE
    cases: list[tuple[Bools, int, str]] = [
        (~after, _NONE, "BASELINE"),
        (progressed, _PD, _PD_RULES[0]),  # the caller names the rule
        ((target == _CR) & ((non_target == _CR) | (non_target == _NONE)), _CR, "CR-ALL"),
        (target == _CR, _PR, "PR-TARGET-CR"),
        ((target == _PR) & held, _PR, "PR-SUSTAINED"),
        (target == _PR, _PR, "PR-TARGET"),
        (target == _SD, _SD, "SD-TARGET"),
        ((target == _NE) & ~has_base, _NE, "NE-BASE"),
        (target == _NE, _NE, "NE-TARGET"),
        (no_targets & (non_target == _CR), _CR, "CR-NONTARGET"),
        (no_targets & (non_target == _NON), _NON, "NON-CR/NON-PD-NONTARGET"),
        (no_targets & (non_target == _NE), _NE, "NE-NONTARGET"),
    ]
    conditions = [condition for condition, _, _ in cases]
    overall = np.select(conditions, [response for _, response, _ in cases], _NE)
    rule = np.select(
        conditions, [_RULE_NAMES.index(name) for _, _, name in cases], _RULE_NAMES.index("NE-NO-LESION")
    )
    return overall, rule
