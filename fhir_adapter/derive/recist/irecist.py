"""iRECIST (Seymour et al. 2017, Lancet Oncol 18:e143-e152), beside RECIST 1.1.

Progression is unconfirmed at first (iUPD); a later assessment confirms it (iCPD), resets it, or leaves it as
it is. Targets, non-targets and the nadir are those of RECIST 1.1; new lesions have a sum of their own, which
is never added to that of the targets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from fhir_adapter.derive.recist.eligibility import (
    MAX_TARGETS,
    MAX_TARGETS_PER_ORGAN,
    MEASURABLE_NODE_UM,
    MEASURABLE_UM,
)
from fhir_adapter.derive.recist.lesions import (
    ABSENT,
    NEW,
    NON_TARGET,
    NOT_ASSESSED,
    PRESENT,
    UNEQUIVOCAL,
    Lesions,
    read_lesions,
)
from fhir_adapter.derive.recist.visits import grade

__all__ = [
    "IRECIST_BEST_ORDER",
    "IRECIST_RULES",
    "immune_best_overall_response",
    "immune_progression",
    "immune_visit_responses",
]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

IRECIST_BEST_ORDER: Final = ("iCR", "iPR", "iSD", "NON-iCR/NON-iUPD", "iCPD", "iUPD", "NE", "MISSING")
"""iBOR is the first of these that a visit up to iCPD has: iUPD does not override what comes after it (Table
3)."""

IRECIST_RULES: Final[dict[str, str]] = {
    "BASELINE": "the first visit of a subject is the baseline; it has no response",
    "AS-RECIST": "Table 2, no iUPD pending: as RECIST 1.1",
    "IUPD-FIRST": "Table 2: RECIST 1.1 progression without a pending iUPD",
    "IUPD-STAYS": "Table 2: a pending iUPD that is neither confirmed nor reset",
    "IUPD-TOO-SOON": "confirmation needs an assessment at least 4 weeks after iUPD",
    "ICPD-TARGET": "Table 2: the sum is 5 mm or more above the iUPD sum",
    "ICPD-NONTARGET": "Table 2: the non-targets that gave iUPD grew further",
    "ICPD-NEW-TARGET": "Table 2: new target lesions grew by 5 mm or more in sum",
    "ICPD-NEW-NONTARGET": "Table 2: a new non-target lesion grew",
    "ICPD-NEW-LESION": "Table 2: a further new lesion",
    "ICPD-OTHER-CATEGORY": "Table 2: a category that had not met progression now does",
    "ICPD-EARLIER": "progression was confirmed at an earlier visit",
    "RESET": "Table 2: iCR, iPR or iSD after iUPD resets it",
    "NE": "not evaluable; a pending iUPD stays",
}
"""The codes of the column RULE of `immune_visit_responses`, each with its sentence."""

GROWTH_MM: Final = 5.0
_BETTER: Final = {"CR": 0, "PR": 1, "SD": 2}


def immune_visit_responses(
    tu: pd.DataFrame,
    tr: pd.DataFrame,
    *,
    sustained_pr: bool = True,
    reappearance_is_pd: bool = True,
    confirm_days: int = 28,
) -> pd.DataFrame:
    """Grades every visit by iRECIST (Seymour 2017, Table 2).

    A progression by RECIST 1.1 is iUPD. It stays until an assessment `confirm_days` or more after it confirms
    it, or iSD, iPR or iCR resets it. It is confirmed if the target sum is 5 mm or more above that of the iUPD
    (where the targets gave it), a non-target is UNEQUIVOCAL again (where the non-targets gave it), the new
    target lesions of the iUPD grew by 5 mm or more in sum, a new non-target lesion grew, a further new lesion
    is seen, or a category (targets, non-targets, new lesions) that had not met progression now does. While a
    new lesion of the iUPD is still there, or was not assessed, only a target PR or CR that is better than the
    target response at the iUPD resets it (FAQ, iRECIST, scenarios B and F). A visit that is not evaluable
    neither confirms nor resets. After iCPD every visit is iCPD.

    New target lesions are the new lesions that are measurable at their first visit (10 mm; the short axis of
    a node 15 mm), the largest first, at most 5 and 2 per organ (if TU has TULOC). Any other new lesion is a
    new non-target: it grew if it is larger than at the iUPD, or UNEQUIVOCAL after PRESENT.

    Args:
        tu: as in `visit_responses`; TULOC is used if there is such a column.
        tr: as in `visit_responses`; the sizes of NEW lesions (LDIAM, LPERP of nodes) are used.
        sustained_pr: as in `visit_responses`.
        reappearance_is_pd: as in `visit_responses`.
        confirm_days: days after the iUPD from which an assessment can confirm it; 4 weeks.

    Returns:
        One row per subject and visit, as `visit_responses` orders them: USUBJID, VISIT, ADT, SUMDIAM, BASE,
        NADIR (mm), NEWSUM (mm: sum of the new target lesions that were measured, NaN without), TRGRESP,
        NTRGRESP, NEWLPROG as RECIST 1.1 gives them, OVRLRESP (iCR, iPR, iSD, NON-iCR/NON-iUPD, iUPD, iCPD,
        NE; None at baseline), IUPDDT (date of the iUPD that is pending or confirmed; NaT if none) and RULE, a
        key of `IRECIST_RULES`.

    Raises:
        ValueError: as `visit_responses`.
    """
    lesions = read_lesions(tu, tr)
    graded = grade(lesions, sustained_pr=sustained_pr, reappearance_is_pd=reappearance_is_pd)
    new_sizes = _NewLesions(lesions, _organs(tu, lesions))
    overall, rule, since = _walk(graded, lesions, new_sizes, confirm_days)
    out = graded.drop(columns=["OVRLRESP", "RULE"])
    out.insert(list(out.columns).index("NADIR") + 1, "NEWSUM", new_sizes.sums())
    return out.assign(
        OVRLRESP=pd.Series(overall, dtype=object),
        IUPDDT=pd.Series(since, dtype="datetime64[ns]"),
        RULE=pd.Series(rule, dtype=object),
    )


@dataclass
class _Pending:
    """An iUPD that is neither confirmed nor reset."""

    date: pd.Timestamp
    target_sum: float
    target_response: str | None
    categories: set[str] = field(default_factory=set)
    new_sizes: dict[int, int] = field(default_factory=dict)
    new_states: dict[int, int] = field(default_factory=dict)


class _NewLesions:
    """Per visit the sizes and states of new lesions, the new targets, and where non-targets grew."""

    def __init__(self, lesions: Lesions, organ: list[str | None]) -> None:
        role = lesions.lesion_role[lesions.row_lesion]
        rows = np.flatnonzero(role == NEW)
        self.sizes: list[dict[int, int]] = [{} for _ in lesions.visit_subject]
        self.states: list[dict[int, int]] = [{} for _ in lesions.visit_subject]
        for row in rows:
            visit, lesion = int(lesions.row_visit[row]), int(lesions.row_lesion[row])
            if lesions.row_um[row] >= 0:
                self.sizes[visit][lesion] = max(int(lesions.row_um[row]), self.sizes[visit].get(lesion, 0))
            if lesions.row_state[row] != NOT_ASSESSED:
                state = int(lesions.row_state[row])
                self.states[visit][lesion] = max(state, self.states[visit].get(lesion, 0))
        self.targets = self._choose(lesions, organ)
        grew = (role == NON_TARGET) & (lesions.row_state == UNEQUIVOCAL)
        self.non_targets_grew = {int(visit) for visit in lesions.row_visit[grew]}

    def _choose(self, lesions: Lesions, organ: list[str | None]) -> set[int]:
        """The new target lesions: measurable at their first visit, the largest first, 5 and 2 per organ."""
        chosen: set[int] = set()
        seen: set[int] = set()
        taken: dict[int, list[str | None]] = {}
        for visit, sizes in enumerate(self.sizes):
            first = [lesion for lesion in self.definite(visit) if lesion not in seen]
            seen.update(first)
            places = taken.setdefault(int(lesions.visit_subject[visit]), [])
            for lesion in sorted(first, key=lambda one: (-sizes.get(one, -1), one)):
                limit = MEASURABLE_NODE_UM if lesions.lesion_nodal[lesion] else MEASURABLE_UM
                crowded = organ[lesion] is not None and places.count(organ[lesion]) >= MAX_TARGETS_PER_ORGAN
                if sizes.get(lesion, -1) >= limit and len(places) < MAX_TARGETS and not crowded:
                    chosen.add(lesion)
                    places.append(organ[lesion])
        return chosen

    def definite(self, visit: int) -> list[int]:
        """The new lesions that are PRESENT or UNEQUIVOCAL at a visit."""
        return [lesion for lesion, state in self.states[visit].items() if state >= PRESENT]

    def target_sum(self, sizes: dict[int, int], of: set[int]) -> int:
        """The sum of new targets in 0.001 mm."""
        return sum(size for lesion, size in sizes.items() if lesion in self.targets and lesion in of)

    def sums(self) -> npt.NDArray[np.float64]:
        """Per visit the sum of the new targets that were measured in mm; NaN without."""
        measured = [[s for lesion, s in sizes.items() if lesion in self.targets] for sizes in self.sizes]
        return np.array([sum(sizes) / 1000 if sizes else np.nan for sizes in measured], dtype=np.float64)


def _organs(tu: pd.DataFrame, lesions: Lesions) -> list[str | None]:
    """Per lesion its organ; nodes of all regions are one."""
    place: dict[tuple[Any, Any], str] = {}
    if "TULOC" in tu.columns:
        known = tu[tu["TULOC"].notna()]
        keys = zip(known["USUBJID"], known["TULNKID"], strict=True)
        place = {key: str(value).strip().upper() for key, value in zip(keys, known["TULOC"], strict=True)}
    out: list[str | None] = []
    for link, subject, nodal in zip(
        lesions.lesion_link, lesions.lesion_subject, lesions.lesion_nodal, strict=True
    ):
        organ = place.get((lesions.subjects[subject], link)) if subject >= 0 else None
        out.append("LYMPH NODE" if nodal and organ is not None else organ)
    return out


def _walk(
    graded: pd.DataFrame, lesions: Lesions, new: _NewLesions, confirm_days: int
) -> tuple[list[str | None], list[str], list[Any]]:
    """Response, rule and date of the iUPD of each visit, one visit after the other."""
    overall: list[str | None] = []
    rules: list[str] = []
    since: list[Any] = []
    pending: _Pending | None = None
    confirmed = False
    known: set[int] = set()
    subject = -1
    visits: list[Any] = list(graded.itertuples(index=False))
    for visit, row in enumerate(visits):
        if lesions.visit_subject[visit] != subject:
            subject, pending, confirmed, known = int(lesions.visit_subject[visit]), None, False, set()
            overall.append(None)
            rules.append("BASELINE")
            since.append(pd.NaT)
            continue
        further = [lesion for lesion in new.definite(visit) if lesion not in known]
        if confirmed:
            response, rule = "iCPD", "ICPD-EARLIER"
        elif pending is None:
            response, rule = _immune(row.OVRLRESP), "AS-RECIST"
            if response == "iUPD":
                rule = "IUPD-FIRST"
                pending = _Pending(row.ADT, row.SUMDIAM, row.TRGRESP)
                _remember(pending, row, visit, new)
        else:
            response, rule = _after_iupd(pending, row, visit, new, further, confirm_days)
            confirmed = response == "iCPD"
            if rule == "IUPD-STAYS":
                _remember(pending, row, visit, new)
        # What is seen too soon to confirm is compared with the iUPD again at the next visit.
        if rule != "IUPD-TOO-SOON":
            known.update(further)
        overall.append(response)
        rules.append(rule)
        since.append(pd.NaT if pending is None else pending.date)
        if rule == "RESET":
            since[-1], pending = pd.NaT, None
    return overall, rules, since


def _immune(response: str) -> str:
    """The iRECIST word of a RECIST 1.1 response without a pending iUPD."""
    words = {"PD": "iUPD", "NON-CR/NON-PD": "NON-iCR/NON-iUPD", "NE": "NE"}
    return words.get(response, "i" + response)


def _progressed(row: Any) -> set[str]:
    """The categories that meet progression at a visit."""
    met = {"target": row.TRGRESP == "PD", "non-target": row.NTRGRESP == "PD", "new": row.NEWLPROG == "Y"}
    return {category for category, progressed in met.items() if progressed}


def _remember(pending: _Pending, row: Any, visit: int, new: _NewLesions) -> None:
    """Adds what a visit in iUPD shows for the first time; growth is counted from there."""
    met = _progressed(row)
    if "target" in met and "target" not in pending.categories:
        pending.target_sum = row.SUMDIAM
    pending.categories |= met
    for lesion in new.definite(visit):
        pending.new_states.setdefault(lesion, new.states[visit][lesion])
    for lesion in pending.new_states:
        if lesion in new.sizes[visit]:
            pending.new_sizes.setdefault(lesion, new.sizes[visit][lesion])


def _after_iupd(
    pending: _Pending, row: Any, visit: int, new: _NewLesions, further: list[int], confirm_days: int
) -> tuple[str, str]:
    """The response at a visit while an iUPD is pending, and its rule (Table 2)."""
    sizes, states = new.sizes[visit], new.states[visit]
    met = _progressed(row)
    compared = set(pending.new_sizes) & set(sizes)
    before = new.target_sum(pending.new_sizes, compared)
    grown = [
        lesion
        for lesion in set(pending.new_states) - new.targets
        if (lesion in compared and sizes[lesion] > pending.new_sizes[lesion])
        or (lesion not in compared and pending.new_states[lesion] == PRESENT < states.get(lesion, 0))
    ]
    above = round(1000 * (row.SUMDIAM - pending.target_sum)) if row.SUMDIAM == row.SUMDIAM else 0
    confirming = {
        "ICPD-TARGET": "target" in pending.categories and row.TRGRESP != "CR" and above >= 1000 * GROWTH_MM,
        "ICPD-NONTARGET": "non-target" in pending.categories and visit in new.non_targets_grew,
        "ICPD-NEW-TARGET": new.target_sum(sizes, compared) - before >= 1000 * GROWTH_MM,
        "ICPD-NEW-NONTARGET": bool(grown),
        "ICPD-NEW-LESION": "new" in pending.categories and bool(further),
        "ICPD-OTHER-CATEGORY": bool(met - pending.categories),
    }
    for rule, holds in confirming.items():
        if holds:
            late = (row.ADT - pending.date).days >= confirm_days
            return ("iCPD", rule) if late else ("iUPD", "IUPD-TOO-SOON")
    if met - {"new"}:
        return "iUPD", "IUPD-STAYS"
    # No category but perhaps the new lesions shows progression.
    there = [lesion for lesion in pending.new_states if states.get(lesion, NOT_ASSESSED) != ABSENT]
    if not there:
        response = {"target": row.TRGRESP, "non-target": row.NTRGRESP}
        word = _overall_without_new(response["target"], response["non-target"])
        return ("NE", "NE") if word == "NE" else (_immune(word), "RESET")
    if row.TRGRESP == "NE":
        return "NE", "NE"
    responds = row.TRGRESP in ("CR", "PR")
    if responds and _BETTER[row.TRGRESP] < _BETTER.get(pending.target_response or "", 3):
        return "iPR", "RESET"  # not iCR: the new lesion is still there
    return "iUPD", "IUPD-STAYS"


def _overall_without_new(target: str | None, non_target: str | None) -> str:
    """Tables 1 and 2 of RECIST 1.1 where nothing shows progression."""
    if target is None:
        return non_target or "NE"
    if target == "CR":
        return "CR" if non_target in ("CR", None) else "PR"
    return target


def immune_best_overall_response(visits: pd.DataFrame) -> pd.DataFrame:
    """Best overall response by iRECIST, iBOR (Seymour 2017, Table 3).

    The best of the subject's visits up to iCPD in the order iCR, iPR, iSD, NON-iCR/NON-iUPD, iCPD, iUPD, NE:
    iUPD does not override a later iSD, iPR or iCR. No confirmation of response, no window.

    Args:
        visits: USUBJID, ADT, OVRLRESP as `immune_visit_responses` gives them, baseline included.

    Returns:
        One row per subject of `visits`, by USUBJID: USUBJID, AVALC, ADT of the first visit that qualifies (of
        an iCPD that of the visit that confirms); MISSING and NaT for a subject with a baseline alone.

    Raises:
        ValueError: an OVRLRESP that is not an iRECIST response; the message names it.
    """
    graded = visits[visits["OVRLRESP"].notna()].sort_values(["USUBJID", "ADT"], kind="stable")
    rank = {word: place for place, word in enumerate(IRECIST_BEST_ORDER[:-1])}
    unknown = sorted({repr(word) for word in graded["OVRLRESP"].unique() if word not in rank})
    if unknown:
        raise ValueError(f"OVRLRESP is {', '.join(unknown)}; it can be {', '.join(rank)}")
    is_final = graded["OVRLRESP"].eq("iCPD").astype("int64")
    earlier = is_final.groupby(graded["USUBJID"]).cumsum() - is_final
    counted = graded[earlier == 0].assign(RANK=lambda frame: frame["OVRLRESP"].map(rank))
    best = counted.sort_values(["USUBJID", "RANK"], kind="stable").drop_duplicates("USUBJID")
    subjects = pd.DataFrame({"USUBJID": np.sort(visits["USUBJID"].unique())})
    out = subjects.merge(best.rename(columns={"OVRLRESP": "AVALC"})[["USUBJID", "AVALC", "ADT"]], how="left")
    return out.assign(AVALC=out["AVALC"].where(out["AVALC"].notna(), "MISSING"))


def immune_progression(visits: pd.DataFrame) -> pd.DataFrame:
    """The date of progression for iPFS (Seymour 2017, section on progression-free survival).

    The first iUPD that was confirmed, or that no later assessment reset. A reset iUPD is not an event.

    Args:
        visits: USUBJID, VISIT, ADT, OVRLRESP, IUPDDT as `immune_visit_responses` gives and orders them.

    Returns:
        One row per subject of `visits`, by USUBJID: USUBJID, AVALC (Y or N), ADT of the iUPD, NaT without.
    """
    last = visits.drop_duplicates("USUBJID", keep="last").sort_values("USUBJID")
    event = last["IUPDDT"].notna()
    return pd.DataFrame(
        {
            "USUBJID": last["USUBJID"].to_numpy(),
            "AVALC": np.where(event, "Y", "N").astype(object),
            "ADT": last["IUPDDT"].to_numpy(),
        }
    )
