"""The vectorised functions against a second reading of the rules: plain loops, one subject at a time."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import date, timedelta
from fractions import Fraction
from typing import Any

import pandas as pd
import pytest

from fhir_adapter.derive.recist import (
    best_overall_response,
    confirmed_best_overall_response,
    confirmed_objective_response,
    objective_response,
    visit_responses,
)

DAY_0 = date(2021, 1, 4)
ORDER = ["CR", "PR", "SD", "NON-CR/NON-PD", "PD", "NE", "ND", "MISSING"]
WORST_LAST = ["ND", "NE", "CR", "PR", "SD", "NON-CR/NON-PD", "PD"]


# ---------------------------------------------------------------- visits


def graded(lesions: list[dict], rows: list[dict], sustained: bool, reappearance: bool) -> list[dict]:
    """The visits of one subject; sizes are exact fractions of a millimetre."""
    role = {lesion["TULNKID"]: lesion["TUSTRESC"] for lesion in lesions}
    nodal = {lesion["TULNKID"]: lesion["NODAL"] for lesion in lesions}
    by_visit = defaultdict(list)
    for row in rows:
        by_visit[row["VISIT"]].append(row)
    dates = {visit: [row["ADT"] for row in its] for visit, its in by_visit.items()}
    visits = sorted(by_visit, key=lambda visit: (min(dates[visit]), max(dates[visit]), visit))

    out: list[dict] = []
    base: Fraction | None = None
    complete_sums: list[Fraction] = []
    target_cr = overall_cr = holds = False
    suspected_since: dict[str, date] = {}
    confirmed: set[str] = set()
    targets = [name for name in role if role[name] == "TARGET"]
    non_targets = [name for name in role if role[name] == "NON-TARGET"]
    for number, visit in enumerate(visits):
        its = by_visit[visit]
        scans = sorted(set(dates[visit]))

        def size_by(name: str, day: date, its: list[dict] = its) -> Fraction | None:
            test = "LPERP" if nodal[name] else "LDIAM"
            found = [
                length(row)
                for row in its
                if row["TRLNKID"] == name and row["TRTESTCD"] == test and row["ADT"] <= day
            ]
            known = [size for size in found if size is not None]
            return max(known) if known else None

        sizes = {name: size_by(name, scans[-1]) for name in targets}
        known = [size for size in sizes.values() if size is not None]
        complete = bool(targets) and len(known) == len(targets)
        total = sum(known, Fraction(0)) if known else None
        row = {"VISIT": visit, "ADT": scans[-1], "SUMDIAM": total, "NADIR": None}
        row |= {"TRGRESP": None, "NTRGRESP": None, "NEWLPROG": None, "OVRLRESP": None}
        if number == 0:
            base = total if complete else None
            if complete:
                complete_sums.append(total)
            out.append(row | {"BASE": base})
            continue

        pd_days: list[date] = []
        new = False
        for name in [name for name in role if role[name] == "NEW"]:
            now = [r for r in its if r["TRLNKID"] == name]
            definite = [r["ADT"] for r in now if state(r, its) in ("PRESENT", "UNEQUIVOCAL")]
            suspicious = [r["ADT"] for r in now if state(r, its) == "EQUIVOCAL"]
            if suspicious:
                suspected_since[name] = min([suspected_since.get(name, date.max), *suspicious])
            if definite:
                new = True
                first = min(definite)
                if name not in confirmed:
                    first = min(first, suspected_since.get(name, date.max))
                confirmed.add(name)
                pd_days.append(first)

        row["NADIR"] = min(complete_sums, default=None)
        target = None
        if targets and base is None:
            target = "NE"
        elif targets:
            nadir = min(complete_sums)

            def shows_pd(amount: Fraction, nadir: Fraction = nadir) -> bool:
                return 5 * (amount - nadir) >= nadir and amount - nadir >= 5

            back = [
                r["ADT"]
                for r in its
                if target_cr
                and reappearance
                and role[r["TRLNKID"]] == "TARGET"
                and not nodal[r["TRLNKID"]]
                and r["TRTESTCD"] == "LDIAM"
                and (length(r) or 0) > 0
            ]
            if complete and all(size < 10 if nodal[name] else size == 0 for name, size in sizes.items()):
                target = "CR"
            elif (total is not None and shows_pd(total)) or back:
                target = "PD"
                pd_days += back
                for day in scans:
                    seen = [size_by(name, day) for name in targets]
                    if shows_pd(sum((size for size in seen if size is not None), Fraction(0))):
                        pd_days.append(day)
                        break
            elif not complete:
                target = "NE"
            elif 10 * total <= 7 * base or (holds and sustained):
                target = "PR"
            else:
                target = "SD"

        non_target = None
        if non_targets:
            states: dict[str, set[str]] = {
                name: {s for r in its if r["TRLNKID"] == name and (s := state(r, its))}
                for name in non_targets
            }
            progressed = [
                r["ADT"]
                for r in its
                if role[r["TRLNKID"]] == "NON-TARGET"
                and (
                    state(r, its) == "UNEQUIVOCAL"
                    or (overall_cr and reappearance and state(r, its) == "PRESENT")
                )
            ]
            pd_days += progressed
            if progressed:
                non_target = "PD"
            elif any(not found for found in states.values()):
                non_target = "NE"
            elif any(found != {"ABSENT"} for found in states.values()):
                non_target = "NON-CR/NON-PD"
            else:
                non_target = "CR"

        if new or "PD" in (target, non_target):
            overall = "PD"
        elif target is None:
            overall = non_target or "NE"
        elif target == "CR":
            overall = "CR" if non_target in ("CR", None) else "PR"
        else:
            overall = target
        out.append(
            row
            | {"BASE": base, "TRGRESP": target, "NTRGRESP": non_target, "NEWLPROG": "Y" if new else "N"}
            | {"OVRLRESP": overall, "ADT": min(pd_days) if overall == "PD" else scans[-1]}
        )
        if complete:
            complete_sums.append(total)
        target_cr = target_cr or target == "CR"
        overall_cr = overall_cr or overall == "CR"
        if target in ("CR", "PR"):
            holds = True
        elif target == "PD":
            holds = False
    return out


def length(row: dict) -> Fraction | None:
    """The size of a row in mm."""
    if row["TRTESTCD"] == "TUMSTATE":
        return None
    if row["TRSTRESC"] == "TOO SMALL TO MEASURE":
        return Fraction(5)
    return None if row["TRSTRESN"] is None else Fraction(str(row["TRSTRESN"]))


def state(row: dict, visit: list[dict]) -> str | None:
    """The state of a non-target or new lesion by a row; the size of a node stands where no state is given."""
    if row["TRTESTCD"] == "TUMSTATE":
        return row["TRSTRESC"]
    size = length(row)
    given = any(
        r["TRTESTCD"] == "TUMSTATE" and r["TRSTRESC"] for r in visit if r["TRLNKID"] == row["TRLNKID"]
    )
    if size is None or given:
        return None
    return "ABSENT" if size < 10 else "PRESENT"


def random_subject(rng: random.Random, name: str) -> tuple[list[dict], list[dict]]:
    """A subject with up to 3 targets, 2 non-targets and 2 new lesions; sizes crowd around the thresholds."""
    lesions = []
    for kind, most in (("TARGET", 3), ("NON-TARGET", 2), ("NEW", 2)):
        for number in range(1, rng.randint(0, most) + 1):
            nodal = rng.random() < 0.35
            lesions.append({"USUBJID": name, "TULNKID": f"{kind}{number}", "TUSTRESC": kind, "NODAL": nodal})
    rows = []
    day = DAY_0
    style = rng.random()
    for visit in range(rng.randint(1, 7)):
        scans = [day] if rng.random() < 0.6 else [day, day + timedelta(days=rng.randint(1, 9))]
        for lesion in lesions:
            if lesion["TUSTRESC"] == "NEW" and (visit == 0 or rng.random() < 0.8):
                continue
            for scan in scans if rng.random() < 0.2 else [rng.choice(scans)]:
                if rng.random() < (0.02 if visit == 0 else 0.08):
                    continue
                rows.append(finding(rng, lesion, visit, style) | {"ADT": scan})
        day += timedelta(days=rng.randint(10, 60))
    return lesions, rows


def finding(rng: random.Random, lesion: dict, visit: int, style: float) -> dict:
    """One row of TR."""
    row = {"USUBJID": lesion["USUBJID"], "TRLNKID": lesion["TULNKID"], "VISIT": f"VISIT {visit}"}
    row |= {"TRSTRESN": None, "TRSTRESC": None}
    if lesion["TUSTRESC"] != "TARGET" and not (lesion["NODAL"] and rng.random() < 0.5):
        if lesion["TUSTRESC"] == "NEW":
            pick = rng.choice(["EQUIVOCAL", "EQUIVOCAL", "PRESENT", "UNEQUIVOCAL", "ABSENT", None])
        elif visit == 0:
            pick = "PRESENT"
        else:
            pick = rng.choices(
                ["ABSENT", "PRESENT", "EQUIVOCAL", "UNEQUIVOCAL", None],
                [60 if style < 0.5 else 20, 20, 3, 2, 3],
            )[0]
        return row | {"TRTESTCD": "TUMSTATE", "TRSTRESC": pick}
    if visit == 0:
        size: float | None = rng.choice([10, 15, 20, 25, 50])
    elif style < 0.5:
        size = rng.choice([0, 0, 0, 0, 8, 4.95, 9.999, 10, 11])
    else:
        size = rng.choice([0, 7, 10, 10.5, 12, 14, 15, 17.5, 18, 20, 24, 25, 30, 35, 36, 40])
    if lesion["NODAL"] and style < 0.5 and visit:
        size = rng.choice([0, 6, 8, 9.999, 9.9, 10, 14])
    row |= {"TRTESTCD": "LPERP" if lesion["NODAL"] else "LDIAM"}
    if rng.random() < 0.04:
        return row | {"TRSTRESC": "TOO SMALL TO MEASURE"}
    if rng.random() < 0.03:
        return row
    return row | {"TRSTRESN": size, "TRSTRESC": str(size)}


@pytest.mark.parametrize("sustained", [True, False])
@pytest.mark.parametrize("reappearance", [True, False])
def test_visits_of_random_subjects(sustained: bool, reappearance: bool) -> None:
    """Every column of every visit of random subjects is as the plain loops say."""
    rng = random.Random(f"visits {sustained} {reappearance}")
    tu: list[dict] = []
    tr: list[dict] = []
    expected: list[dict] = []
    for number in range(1500):
        name = f"S{number:05d}"
        lesions, rows = random_subject(rng, name)
        tu += lesions
        tr += rows
        expected += [{"USUBJID": name} | row for row in graded(lesions, rows, sustained, reappearance)]
    rng.shuffle(tr)
    got = visit_responses(
        pd.DataFrame(tu),
        pd.DataFrame(tr),
        sustained_pr=sustained,
        reappearance_is_pd=reappearance,
    )
    want = pd.DataFrame(expected)[[column for column in got.columns if column != "RULE"]]
    for column in ("SUMDIAM", "BASE", "NADIR"):
        want[column] = want[column].astype("float64")
    want["ADT"] = want["ADT"].astype("datetime64[ns]")
    pd.testing.assert_frame_equal(got.drop(columns="RULE"), want, check_exact=True)
    assert set(want["OVRLRESP"].dropna()) == {"CR", "PR", "SD", "NON-CR/NON-PD", "PD", "NE"}


# ---------------------------------------------------------------- best response


def counted(records: list[tuple[date, str]], cut: date | None) -> list[tuple[date, str]]:
    """The records up to the cut, the worst of each day, by date."""
    days: dict[date, str] = {}
    for day, word in records:
        if cut is None or day <= cut:
            known = days.get(day)
            if known is None or WORST_LAST.index(word) > WORST_LAST.index(known):
                days[day] = word
    return sorted(days.items())


def is_confirmed(
    records: list[tuple[date, str]], at: int, ref_confirm: int, max_nr_ne: int, accept_sd: bool
) -> bool:
    """Whether any later record confirms the CR or PR at a position."""
    day, word = records[at]
    for later in range(at + 1, len(records)):
        if records[later][0] < day + timedelta(days=ref_confirm):
            continue
        between = [w for _, w in records[at + 1 : later]]
        if between.count("NE") > max_nr_ne:
            continue
        confirming = records[later][1]
        if word == "CR" and confirming == "CR" and set(between) <= {"CR", "NE"}:
            return True
        if word == "PR" and confirming in ("CR", "PR") and set(between) <= {"CR", "PR", "SD", "NE"}:
            after = [*between, confirming]
            pr_after_cr = "CR" in after and "PR" in after[after.index("CR") :]
            if between.count("SD") <= (1 if accept_sd else 0) and not pr_after_cr:
                return True
    return False


def summarised(
    records: list[tuple[date, str]], start: date, cut: date | None, settings: dict[str, Any]
) -> dict[str, tuple[str, date | None]]:
    """The four results of one subject."""
    if cut is None and settings["pd"] == "first":
        cut = min((day for day, word in records if word == "PD"), default=None)
    kept = counted(records, cut)
    confirmed = [
        is_confirmed(kept, at, settings["ref_confirm"], settings["max_nr_ne"], settings["accept_sd"])
        for at in range(len(kept))
    ]
    nothing = "NE" if settings["missing_as_ne"] else "MISSING"
    best, confirmed_best = [], []
    for (day, word), sure in zip(kept, confirmed, strict=True):
        late = day >= start + timedelta(days=settings["ref_start_window"])
        best.append(("NE" if word in ("SD", "NON-CR/NON-PD") and not late else word, day))
        if word in ("CR", "PR") and not sure:
            word = "SD"
        confirmed_best.append(("NE" if word in ("SD", "NON-CR/NON-PD") and not late else word, day))
    responses = [day for day, word in kept if word in ("CR", "PR")]
    sures = [day for (day, _), sure in zip(kept, confirmed, strict=True) if sure]
    return {
        "best": min(best, key=lambda r: (ORDER.index(r[0]), r[1]), default=(nothing, None)),
        "confirmed best": min(
            confirmed_best, key=lambda r: (ORDER.index(r[0]), r[1]), default=(nothing, None)
        ),
        "objective": ("Y", min(responses)) if responses else ("N", None),
        "confirmed objective": ("Y", min(sures)) if sures else ("N", None),
    }


@pytest.mark.parametrize("seed", range(24))
def test_best_responses_of_random_sequences(seed: int) -> None:
    """The four results of random sequences, with random settings and cuts, are as the plain loops say."""
    rng = random.Random(seed)
    settings: dict[str, Any] = {
        "pd": rng.choice(["first", "given"]),
        "ref_start_window": rng.choice([0, 28, 42, 49]),
        "ref_confirm": rng.choice([0, 14, 28, 42]),
        "max_nr_ne": rng.choice([0, 1, 2]),
        "accept_sd": rng.random() < 0.5,
        "missing_as_ne": rng.random() < 0.5,
    }
    words = rng.choice(
        [ORDER[:-1], ["CR", "PR", "SD", "NE"], ["CR", "PR", "NE"], ["CR", "PR", "SD", "PD", "NE"]]
    )
    rs, reference, cuts, expected = [], [], [], defaultdict(list)
    for number in range(400):
        name = f"S{number:05d}"
        records = []
        day = DAY_0 - timedelta(days=rng.randint(0, 5))
        for _ in range(rng.randint(0, 9)):
            records.append((day, rng.choice(words)))
            day += timedelta(days=rng.choice([0, 7, 14, 14, 21, 28, 28, 35, 42]))
        cut = None
        if settings["pd"] == "given" and rng.random() < 0.5:
            cut = DAY_0 + timedelta(days=rng.randint(0, 120))
            cuts.append({"USUBJID": name, "ADT": cut})
            cuts.append({"USUBJID": name, "ADT": cut + timedelta(days=30)})
        reference.append({"USUBJID": name, "ADT": DAY_0})
        rs += [{"USUBJID": name, "ADT": when, "AVALC": word} for when, word in records]
        for result, (word, when) in summarised(records, DAY_0, cut, settings).items():
            expected[result].append({"USUBJID": name, "AVALC": word, "ADT": when})
    rng.shuffle(rs)
    rng.shuffle(reference)
    frames = pd.DataFrame(rs), pd.DataFrame(reference)
    given = pd.DataFrame(cuts, columns=["USUBJID", "ADT"]) if settings["pd"] == "given" else None
    confirming = {key: settings[key] for key in ("ref_confirm", "max_nr_ne", "accept_sd")}
    window = {key: settings[key] for key in ("ref_start_window", "missing_as_ne")}
    got = {
        "best": best_overall_response(*frames, given, **window),
        "confirmed best": confirmed_best_overall_response(*frames, given, **window, **confirming),
        "objective": objective_response(*frames, given),
        "confirmed objective": confirmed_objective_response(*frames, given, **confirming),
    }
    for result, frame in got.items():
        want = pd.DataFrame(expected[result]).astype({"ADT": "datetime64[ns]"})
        pd.testing.assert_frame_equal(frame, want, obj=result)
