"""Reads tumour identification (TU) and tumour results (TR) into integer arrays, ordered by subject and visit.

A finding is one row of TR: a target's size, or the state of a non-target or new lesion.
Nothing is graded here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from fhir_adapter.derive.recist.columns import (
    NO_DAY,
    calendar_days,
    codes_of,
    flags,
    require_columns,
    spread,
    text_of,
)
from fhir_adapter.derive.recist.pieces import has_pieces, link_pieces, list_pieces, resolve_sizes
from fhir_adapter.derive.recist.segments import in_order, run_starts, stable_order
from fhir_adapter.derive.recist.vocabulary import NODE_NORMAL_BELOW_UM, TOO_SMALL_UM

__all__ = [
    "ABSENT",
    "EQUIVOCAL",
    "NEW",
    "NON_TARGET",
    "PRESENT",
    "TARGET",
    "UNEQUIVOCAL",
    "Lesions",
    "read_lesions",
]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

TARGET, NON_TARGET, NEW = 0, 1, 2
_ROLES: Final = {"TARGET": TARGET, "NON-TARGET": NON_TARGET, "NEW": NEW}

NOT_ASSESSED, ABSENT, EQUIVOCAL, PRESENT, UNEQUIVOCAL = 0, 1, 2, 3, 4
# A state that says that nobody could tell is the same as none.
_STATES: Final = {
    "ABSENT": ABSENT,
    "EQUIVOCAL": EQUIVOCAL,
    "PRESENT": PRESENT,
    "UNEQUIVOCAL": UNEQUIVOCAL,
    "NOT ASSESSED": NOT_ASSESSED,
    "NOT DONE": NOT_ASSESSED,
    "NOT EVALUABLE": NOT_ASSESSED,
    "NE": NOT_ASSESSED,
}

_LONGEST, _SHORT_AXIS, _STATE, _OTHER_TEST = 0, 1, 2, 3
_TESTS: Final = {"LDIAM": _LONGEST, "LPERP": _SHORT_AXIS, "TUMSTATE": _STATE}

_MM_PER_UNIT: Final = {"MM": 1, "CM": 10}

_TOO_SMALL = re.compile(r"TOO SMALL TO MEASURE|TSTM|< ?\d+(\.\d+)?( ?[MC]M)?")


@dataclass(frozen=True, eq=False)
class Lesions:
    """Lesions, visits and findings of all subjects, as arrays.

    Attributes:
        subjects: USUBJID of each subject code, ascending.
        lesion_link: per lesion the value of TULNKID.
        lesion_subject: per lesion its subject code; -1 for a piece of other lesions (`pieces`), which is none
            of its own.
        lesion_role: per lesion TARGET, NON_TARGET or NEW.
        lesion_nodal: per lesion whether it is a lymph node.
        visit_subject: per visit its subject code; visits are sorted by subject, first scan and last scan.
        visit_label: per visit the value of VISIT.
        visit_first: per visit the day of its first scan.
        visit_last: per visit the day of its last scan.
        row_visit: per finding the position of its visit.
        row_lesion: per finding its lesion.
        row_day: per finding the day of the scan.
        row_um: per finding the size of a target or new lesion on its axis in 0.001 mm, -1 if it is none.
        row_state: per finding the state of a non-target or new lesion, NOT_ASSESSED if it is none.
        pieces_visit: visits at which a target was measured in pieces, so that it counts as assessed.
        pieces_lesion: the target.
    """

    subjects: pd.Index[Any]
    lesion_link: npt.NDArray[np.object_]
    lesion_subject: Ints
    lesion_role: Ints
    lesion_nodal: Bools
    visit_subject: Ints
    visit_label: npt.NDArray[np.object_]
    visit_first: Ints
    visit_last: Ints
    row_visit: Ints
    row_lesion: Ints
    row_day: Ints
    row_um: Ints
    row_state: Ints
    pieces_visit: Ints
    pieces_lesion: Ints

    def lesions_per_subject(self, role: int) -> Ints:
        """Per subject the number of lesions of a role."""
        chosen = self.lesion_subject[(self.lesion_role == role) & (self.lesion_subject >= 0)]
        return np.bincount(chosen, minlength=len(self.subjects)).astype(np.int64)


def read_lesions(tu: pd.DataFrame, tr: pd.DataFrame) -> Lesions:
    """Reads TU and TR; see `visits.visit_responses` for their columns.

    Raises:
        ValueError: a column is missing, a value is not one that the column can have, a visit has no date at
            all, or a row of TR belongs to a lesion that TU does not list.
    """
    require_columns(tu, ("USUBJID", "TULNKID", "TUSTRESC", "NODAL"), "tu")
    require_columns(tr, ("USUBJID", "TRLNKID", "VISIT", "ADT", "TRTESTCD", "TRSTRESN", "TRSTRESC"), "tr")
    # Other tests (a reader's own sum, a density) are not findings of RECIST.
    test = spread(tr["TRTESTCD"], lambda value: _TESTS.get(text_of(value), _OTHER_TEST), _OTHER_TEST)
    used = test != _OTHER_TEST
    if not used.all():
        tr, test = tr.loc[used], test[used]

    subject, subjects = _factorized(tr["USUBJID"], "tr's USUBJID")
    label, labels = _factorized(tr["VISIT"], "tr's VISIT")
    link, link_names = _factorized(tr["TRLNKID"], "tr's TRLNKID")
    day = calendar_days(tr["ADT"], "tr's ADT")
    text, texts = pd.factorize(tr["TRSTRESC"])
    size = _sizes(tr, test, _table(texts, _counts_as_too_small, 0)[text] == 1)
    # An unknown state is kept as a negative number that says which, until the role of the lesion is known.
    state = np.where(test == _STATE, _table(texts, _state_of, NOT_ASSESSED)[text], NOT_ASSESSED)

    # Rows of a visit stand together from here on: what follows is then linear in the rows.
    key = subject * max(1, len(labels)) + label
    if (key[1:] < key[:-1]).any():
        order = stable_order(key)
        key, link, day, test, size, state = in_order(order, key, link, day, test, size, state)
        subject = key // max(1, len(labels))

    links = pd.Index(tu["TULNKID"].unique())
    in_pieces = has_pieces(link_names, links)
    if in_pieces:
        tu = list_pieces(tu, tr)
        links = pd.Index(tu["TULNKID"].unique())
    lesion_key, lesion_subject, lesion_role, lesion_nodal = _lesions(tu, subjects, links)
    link = links.get_indexer(link_names)[link]
    row_key = np.where(link >= 0, subject * len(links) + link, -1)
    row_lesion = np.searchsorted(lesion_key, row_key)
    known = np.append(lesion_key, -2)[row_lesion] == row_key
    if not known.all():
        raise ValueError(f"tr has {np.count_nonzero(~known)} rows of lesions that tu does not list")

    row_visit, visit_key, visit_first, visit_last = _visits(key, subject, day)
    visit_subject, visit_label = np.divmod(visit_key, max(1, len(labels)))
    # A finding without a date of its own belongs to the visit's last scan, which cannot advance a
    # progression.
    day = np.where(day == NO_DAY, visit_last[row_visit], day)

    role = lesion_role[row_lesion]
    state[role == TARGET] = NOT_ASSESSED  # a target is graded by its size
    if (state < 0).any():
        raise ValueError(f"tr's TUMSTATE is {texts[-1 - state.min()]!r}; it can be {', '.join(_STATES)}")
    _states_from_sizes(state, size, test, role, row_visit * max(1, len(lesion_key)) + row_lesion)
    axis = np.where(lesion_nodal[row_lesion], _SHORT_AXIS, _LONGEST)
    size = np.where((role != NON_TARGET) & (test == axis), size, -1)

    lesion_link = np.asarray(links, dtype=object)[lesion_key % max(1, len(links))]
    rows = _Rows(row_visit, row_lesion, day, size, state)
    none = np.empty(0, dtype=np.int64)
    pieces_visit, pieces_lesion = none, none
    if in_pieces:
        lesion_subject, rows, pieces_visit, pieces_lesion = _with_pieces(
            lesion_subject, lesion_link, lesion_role, rows
        )

    return Lesions(
        subjects=subjects,
        lesion_link=lesion_link,
        lesion_subject=lesion_subject,
        lesion_role=lesion_role,
        lesion_nodal=lesion_nodal,
        visit_subject=visit_subject,
        visit_label=np.asarray(labels, dtype=object)[visit_label],
        visit_first=visit_first,
        visit_last=visit_last,
        row_visit=rows.visit,
        row_lesion=rows.lesion,
        row_day=rows.day,
        row_um=rows.um,
        row_state=rows.state,
        pieces_visit=pieces_visit,
        pieces_lesion=pieces_lesion,
    )


@dataclass(frozen=True, eq=False)
class _Rows:
    """Findings: visit, lesion, day, size and state of each."""

    visit: Ints
    lesion: Ints
    day: Ints
    um: Ints
    state: Ints

    def take(self, chosen: Any, **changed: Ints) -> _Rows:
        """The chosen findings, with some columns changed."""
        names = ("visit", "lesion", "day", "um", "state")
        return _Rows(*(changed.get(name, getattr(self, name)[chosen]) for name in names))

    def add(self, more: _Rows) -> _Rows:
        """These findings and more."""
        names = ("visit", "lesion", "day", "um", "state")
        return _Rows(*(np.concatenate([getattr(self, name), getattr(more, name)]) for name in names))


def _with_pieces(
    subject: Ints, link: npt.NDArray[np.object_], role: Ints, rows: _Rows
) -> tuple[Ints, _Rows, Ints, Ints]:
    """Counts pieces for the lesions they are of (`pieces`).

    A piece of targets keeps its findings of size, which enter the sum. The findings of a piece of other
    lesions become findings of these: the sizes of fragments are added up, that of a merged lesion goes to the
    first of its lesions and the others have none left; each has the state.

    Returns:
        Per lesion its subject, -1 for a piece; the findings; visits and targets that were measured in pieces.
    """
    pieces = link_pieces(subject, link)
    lesions = len(link)
    is_piece = pieces.is_piece(lesions)
    first_visit = np.full(lesions, np.iinfo(np.int64).max, dtype=np.int64)
    np.minimum.at(first_visit, rows.lesion, rows.visit)
    sized = np.flatnonzero((role[rows.lesion] == TARGET) & (rows.um >= 0))
    keep, at, whole = resolve_sizes(
        pieces, rows.visit[sized], rows.lesion[sized], rows.um[sized], first_visit
    )
    um = rows.um.copy()
    um[sized[~keep]] = -1
    rows = rows.take(slice(None), um=um)
    at, whole = at[role[whole] == TARGET], whole[role[whole] == TARGET]

    # What a piece says of lesions that are no targets.
    for number in range(len(pieces.piece)):
        part = int(pieces.part[number])
        while is_piece[part] and role[part] != TARGET:
            part = int(pieces.part[pieces.piece == part][0])
        if role[part] == TARGET:
            continue
        chosen = np.flatnonzero(rows.lesion == pieces.piece[number])
        said = rows.take(chosen, lesion=np.full(len(chosen), part, dtype=np.int64))
        if role[pieces.piece[number]] == TARGET:
            seen = np.where(said.um > 0, PRESENT, np.where(said.um == 0, ABSENT, NOT_ASSESSED))
            said = said.take(slice(None), state=seen, um=np.full(len(chosen), -1, dtype=np.int64))
        elif not pieces.merged[number]:
            fragments = pieces.piece[(pieces.part == pieces.part[number]) & ~pieces.merged]
            said = said.take(slice(None), um=_fragment_sums(rows, fragments)[chosen])
        elif not pieces.first[number]:
            said = said.take(slice(None), um=np.where(said.um >= 0, 0, -1))
        rows = rows.add(said)
    # Findings of pieces that were passed on stand for their lesions alone.
    passed = is_piece[rows.lesion] & (role[rows.lesion] != TARGET)
    rows = rows.take(np.flatnonzero(~passed))
    return np.where(is_piece, -1, subject), rows, at, whole


def _fragment_sums(rows: _Rows, fragments: Ints) -> Ints:
    """Per row with a size the sum of the fragments at its visit, -1 for the others."""
    largest: dict[int, dict[int, int]] = {}
    own = np.isin(rows.lesion, fragments) & (rows.um >= 0)
    for row in np.flatnonzero(own).tolist():
        sizes = largest.setdefault(int(rows.visit[row]), {})
        sizes[int(rows.lesion[row])] = max(int(rows.um[row]), sizes.get(int(rows.lesion[row]), 0))
    total = {visit: sum(sizes.values()) for visit, sizes in largest.items()}
    return np.array(
        [
            total[int(visit)] if um >= 0 and visit in total else -1
            for visit, um in zip(rows.visit, rows.um, strict=True)
        ],
        dtype=np.int64,
    )


def _factorized(column: pd.Series[Any], name: str) -> tuple[Ints, pd.Index[Any]]:
    """Per row the position of its value among the distinct values, ascending; none may be missing."""
    codes, distinct = pd.factorize(column)
    if (codes < 0).any():
        raise ValueError(f"{name} is missing in {np.count_nonzero(codes < 0)} rows")
    values = pd.Index(distinct)
    if values.is_monotonic_increasing:  # as a rule: sorting names takes longer than grading them
        return codes.astype(np.int64), values
    order = values.argsort()
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return place[codes], values.take(order)


def _lesions(
    tu: pd.DataFrame, subjects: pd.Index[Any], links: pd.Index[Any]
) -> tuple[Ints, Ints, Ints, Bools]:
    """Key, subject, role and nodal flag of each lesion, by ascending key; a lesion may be listed twice."""
    for column in ("USUBJID", "TULNKID"):
        if tu[column].isna().any():
            raise ValueError(f"tu's {column} is missing in {tu[column].isna().sum()} rows")
    role = codes_of(tu["TUSTRESC"], _ROLES, -1, "tu's TUSTRESC")
    if (role < 0).any():
        raise ValueError(f"tu's TUSTRESC is missing in {np.count_nonzero(role < 0)} rows")
    nodal = flags(tu["NODAL"], "tu's NODAL")
    if ((nodal < 0) & (role == TARGET)).any():
        raise ValueError("tu's NODAL is missing for a target: its axis cannot be chosen")
    subject = subjects.get_indexer(pd.Index(tu["USUBJID"]))
    listed = subject >= 0
    key = (subject * len(links) + links.get_indexer(pd.Index(tu["TULNKID"])))[listed]
    order = np.argsort(key, kind="stable")
    key, role, nodal = key[order], role[listed][order], np.maximum(nodal, 0)[listed][order]
    first = run_starts(key)
    same = key[1:] == key[:-1]
    if (same & ((role[1:] != role[:-1]) | (nodal[1:] != nodal[:-1]))).any():
        raise ValueError("tu lists a lesion twice with different TUSTRESC or NODAL")
    key, role, nodal = key[first], role[first], nodal[first]
    return key, key // max(1, len(links)), role, nodal == 1


def _visits(key: Ints, subject: Ints, day: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Per row its visit's position; per visit its key, first and last day; visits by subject and date.

    Args:
        key: per row subject and label of the visit, ascending.
        subject: per row the subject.
        day: per row the day, or NO_DAY.
    """
    starts = np.flatnonzero(run_starts(key))
    if not len(starts):
        return key, key, key, key
    last = np.maximum.reduceat(day, starts)
    first = np.minimum.reduceat(np.where(day == NO_DAY, np.iinfo(np.int64).max, day), starts)
    undated = np.count_nonzero(last == NO_DAY)
    if undated:
        raise ValueError(f"tr has {undated} visits without any date")
    order = np.lexsort((key[starts], last, first, subject[starts]))
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    row_visit = np.repeat(position, np.diff(np.append(starts, len(key))))
    return row_visit, key[starts][order], first[order], last[order]


def _table(texts: pd.Index[Any], read: Callable[[str], int | None], missing: int) -> Ints:
    """The code of each distinct text (-1 minus its place if it has none), and last that of a missing one."""
    codes = [read(text_of(value)) for value in texts]
    known = [-1 - place if code is None else code for place, code in enumerate(codes)]
    return np.array([*known, missing], dtype=np.int64)


def _counts_as_too_small(text: str) -> int:
    return int(_TOO_SMALL.fullmatch(text) is not None)


def _state_of(text: str) -> int | None:
    return _STATES.get(text) if text else NOT_ASSESSED


def _sizes(tr: pd.DataFrame, test: Ints, too_small: Bools) -> Ints:
    """Each row's size in 0.001 mm, -1 where none was measured; too small to measure counts 5 mm (4.3.2)."""
    measured = test != _STATE
    size = np.full(len(tr), -1, dtype=np.int64)
    millimetres = pd.to_numeric(tr["TRSTRESN"]).to_numpy(dtype=np.float64, na_value=np.nan)
    has_number = measured & ~np.isnan(millimetres)
    number = millimetres[has_number]
    if (number < 0).any() or np.isinf(number).any():
        raise ValueError("tr's TRSTRESN holds a negative or infinite length")
    if "TRSTRESU" in tr.columns:
        number = number * codes_of(tr["TRSTRESU"].loc[has_number], _MM_PER_UNIT, 1, "tr's TRSTRESU")
    size[has_number] = np.rint(number * 1000).astype(np.int64)
    # A number beside these words is a placeholder or the limit of a comparator, not a measurement.
    size[measured & too_small] = TOO_SMALL_UM
    return size


def _states_from_sizes(state: Ints, size: Ints, test: Ints, role: Ints, cell: Ints) -> None:
    """Fills the state of non-target and new lesions of which only a size was recorded.

    A node with a short axis below 10 mm is ABSENT, else PRESENT (4.3.1); any other lesion with a size is
    PRESENT, with 0 mm ABSENT. A state that was stated for the lesion at the visit (`cell`) is the reader's
    word and stands.
    """
    sized = np.flatnonzero((role != TARGET) & (size >= 0))
    if not len(sized):
        return
    sized = sized[~np.isin(cell[sized], cell[state != NOT_ASSESSED])]
    absent = np.where(test[sized] == _SHORT_AXIS, size[sized] < NODE_NORMAL_BELOW_UM, size[sized] == 0)
    state[sized] = np.where(absent, ABSENT, PRESENT)
