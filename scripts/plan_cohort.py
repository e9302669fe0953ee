"""Plans the synthetic reference cohort: from one row per subject to scans, measurements, doses, visits and events.

    python scripts/plan_cohort.py tests/data/reference fhir_adapter/demo/cohort

Reads the answers (`cohort.csv`, `cohort_ae.csv`: one row per subject, found by a search so that the aggregates are
those of the publication; the people do not exist) and writes what a hospital would hold: CSV files of raw facts that
lead to them. The answers stay with the tests; only the raw facts are part of the package. Deterministic: the
random generator is seeded by the subject.
"""

from __future__ import annotations

import csv
import datetime as dt
import random
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FIRST, LAST, CUTOFF = dt.date(2019, 7, 1), dt.date(2022, 4, 30), dt.date(2022, 7, 31)
CYCLE = 21
INTERVAL = 63

HISTOLOGY = {  # ICD-O-3 morphology, or text where hospitals have no code
    "Well-differentiated liposarcoma": "8851/3",
    "Dedifferentiated liposarcoma": "8858/3",
    "Myxoid liposarcoma": "8852/3",
    "Pleomorphic liposarcoma": "8854/3",
    "Leiomyosarcoma": "8890/3",
    "Rhabdomyosarcoma": "8900/3",
    "Fibrosarcoma": "8810/3",
    "Aggressive fibromatosis": "8821/1",
    "Desmoplastic small round cell tumor": "8806/3",
    "Malignant peripheral nerve sheath tumor": "9540/3",
    "Solitary malignant fibrous tumor": "8815/3",
    "Undifferentiated pleomorphic sarcoma": "8802/3",
    "Synovial sarcoma": "9040/3",
    "Malignant paraganglioma": "8680/3",
    "High-grade sarcoma, NOS": "High-grade sarcoma, NOS",
    "Sarcomatoid carcinoma": "8033/3",
}
LATE_FIRST = {"RPS-023", "RPS-047"}
NOT_EVALUABLE_TWICE = {"RPS-001", "RPS-035"}
MISSED = {"RPS-004": 2, "RPS-016": 5, "RPS-018": 3, "RPS-048": 7}
UNEVALUABLE = {"RPS-019": 3, "RPS-021": 2, "RPS-055": 3, "RPS-044": 2}
REDUCED = {"RPS-015": 3, "RPS-018": 11}  # first cycle at 10 mg
INTERRUPTED = {"RPS-010": 97, "RPS-022": 9, "RPS-040": 109}  # day from the first dose
DISAGREE = {"RPS-008": 1, "RPS-014": 1, "RPS-033": 2, "RPS-041": 1, "RPS-056": 3}  # scan → another response
AFTER_PROGRESSION = {"RPS-002", "RPS-017", "RPS-032", "RPS-046", "RPS-056"}


@dataclass
class Tables:
    """Rows by file."""

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, name: str, **row: Any) -> None:
        self.rows.setdefault(name, []).append(row)


def _days(base: dt.date, days: int) -> str:
    return (base + dt.timedelta(days=days)).isoformat()


def _schedule(subject: str, best: str, last: int, rng: random.Random) -> list[int]:
    """Days of the scans after baseline; the last is the day that decides PFS."""
    if subject in LATE_FIRST or (best == "PD" and subject not in NOT_EVALUABLE_TWICE):
        return [last]
    days = []
    number = 1
    while True:
        day = INTERVAL * number + rng.randint(-3, 4)
        if day > last - 25:
            break
        days.append(day)
        number += 1
    if subject in MISSED:
        del days[MISSED[subject]]
    return [*days, last]


def _targets(row: dict[str, str], rng: random.Random) -> list[tuple[str, str, float, bool]]:
    """Target lesions: (name, location, baseline diameter in mm, node)."""
    sites = [site for site in row["metastatic_sites"].split(";") if site]
    found = [("T01", "Retroperitoneum", float(rng.randint(62, 168)), False)]
    if rng.random() < 0.45:
        found.append(("T02", "Retroperitoneum", float(rng.randint(24, 71)), False))
    place = {"lung": "Lung", "liver": "Liver", "peritoneum": "Peritoneum", "lymph node": "Lymph node"}
    for site in sites:
        name = f"T{len(found) + 1:02d}"
        node = site == "lymph node"
        found.append((name, place[site], float(rng.randint(18, 26) if node else rng.randint(14, 47)), node))
    if row["subject"] == "RPS-054":
        found.append((f"T{len(found) + 1:02d}", "Lymph node", 17.0, True))
    return found[:5]


def _relative(best: str, days: list[int], event: bool, mode: str, rng: random.Random) -> list[float]:
    """Sum of diameters relative to baseline at each scan."""
    count = len(days)
    if best == "CR":
        return [0.0] * count
    if best == "PD":
        growth = 1 + rng.uniform(0.24, 0.62) if mode == "growth" else 1 + rng.uniform(-0.12, 0.14)
        return [*(1 + rng.uniform(0.0, 0.06) for _ in range(count - 1)), growth]
    if best == "PR":
        depth = rng.uniform(0.24, 0.66)
        start = 1 if count > 2 and rng.random() < 0.35 else 0
        path = [rng.uniform(0.76, 0.88) if i < start else depth + 0.05 * rng.random() for i in range(count)]
        if event and mode == "growth":
            path[-1] = min(path[:-1]) * rng.uniform(1.28, 1.55)
        return path
    slope = rng.uniform(-0.035, 0.012)
    level = 1 + rng.uniform(-0.24, 0.13)
    path = [min(max(level + slope * i, 0.74), 1.15) for i in range(count)]
    if event and mode == "growth":
        path[-1] = min([1.0, *path[:-1]]) * rng.uniform(1.25, 1.5)
    return path


def _round(value: float) -> float:
    return float(max(round(value), 0))


def _measure(
    tables: Tables,
    subject: str,
    date: str,
    lesion: str,
    value: float | None,
    rng: random.Random,
    *,
    absent: str = "",
) -> None:
    """One measurement row; a fifth of them in cm, a tiny remnant as `< 5 mm`."""
    if value is None:
        tables.add(
            "measurements",
            subject=subject,
            date=date,
            lesion=lesion,
            value="",
            unit="",
            comparator="",
            absent=absent,
        )
        return
    if 0 < value < 5:
        row = {"value": "5", "unit": "mm", "comparator": "<"}
    elif value and rng.random() < 0.2:
        row = {"value": f"{value / 10:g}", "unit": "cm", "comparator": ""}
    else:
        row = {"value": f"{value:g}", "unit": "mm", "comparator": ""}
    tables.add("measurements", subject=subject, date=date, lesion=lesion, absent="", **row)


def _check(best: str, baseline: float, sums: list[float | None], event: bool, mode: str) -> None:
    """A plain reading of RECIST's target rules on the planned sums, so that a bad plan is seen here."""
    nadir = baseline
    for number, total in enumerate(sums):
        last = number == len(sums) - 1
        if total is None:
            continue
        grown = total - nadir >= 5 and 5 * (total - nadir) >= nadir
        wanted = last and event and mode == "growth"
        if grown != wanted:
            raise AssertionError((best, baseline, sums, mode))
        if best in {"SD", "PD"} and not grown and 10 * total <= 7 * baseline:
            raise AssertionError((best, "shrinks too far", baseline, sums))
        nadir = min(nadir, total)
    if best == "PR" and not any(t is not None and 10 * t <= 7 * baseline for t in sums):
        raise AssertionError((best, "never responds", baseline, sums))


def _scans(tables: Tables, row: dict[str, str], base: dt.date, rng: random.Random) -> list[int]:
    subject, best, last = row["subject"], row["best_overall_response"], int(row["pfs_days"])
    event = row["pfs_event"] == "1"
    days = _schedule(subject, best, last, rng)
    mode = rng.choice(["growth", "growth", "growth", "new", "non-target"]) if event else ""
    if subject in NOT_EVALUABLE_TWICE | LATE_FIRST:
        mode = "growth"
    targets = _targets(row, rng)
    relative = _relative(best, days, event, mode, rng)
    non_target = mode == "non-target" or best == "CR" or rng.random() < 0.5
    for name, place, _, node in targets:
        tables.add(
            "lesions", subject=subject, lesion=name, role="TARGET", location=place, node="Y" if node else ""
        )
    if non_target:
        tables.add(
            "lesions", subject=subject, lesion="NT01", role="NON-TARGET", location="Peritoneum", node=""
        )
    if mode == "new":
        tables.add(
            "lesions",
            subject=subject,
            lesion="NEW01",
            role="NEW",
            location=rng.choice(["Liver", "Lung"]),
            node="",
        )
    modality = rng.choice(["CT", "CT", "CT", "MRI"])

    def scan(day: int, label: str) -> str:
        date = _days(base, day)
        tables.add("scans", subject=subject, date=date, label=label, modality=modality)
        return date

    if rng.random() < 0.3:  # a scan of an earlier line: outside the baseline window, hence not needed
        date = scan(-rng.randint(45, 90), "Earlier line")
        for name, _, size, _ in targets[:1]:
            _measure(tables, subject, date, name, _round(size * rng.uniform(0.8, 0.97)), rng)
    date = scan(0, "Baseline")
    for name, _, size, _ in targets:
        _measure(tables, subject, date, name, size, rng)
    if non_target:
        tables.add("states", subject=subject, date=date, lesion="NT01", state="present")
    baseline = sum(size for _, _, size, _ in targets)
    sums: list[float | None] = []
    labels: set[str] = set()
    for number, (day, factor) in enumerate(zip(days, relative, strict=True)):
        final = number == len(days) - 1
        label = f"Week {round(day / 7)}"
        assert label not in labels, subject
        labels.add(label)
        date = scan(day, label)
        gap = (subject in NOT_EVALUABLE_TWICE and not final) or UNEVALUABLE.get(subject) == number
        total: float | None = 0.0
        for index, (name, _, size, node) in enumerate(targets):
            value = _round(size * factor)
            if best == "CR":
                value = 7.0 if node else 0.0
            if final and event and mode == "growth":
                value = max(value, 1.0)
            if gap and index == 0:
                _measure(
                    tables,
                    subject,
                    date,
                    name,
                    None,
                    rng,
                    absent="not-performed" if number % 2 else "unknown",
                )
                total = None
                continue
            if total is not None:
                total += 5.0 if 0 < value < 5 else value
            _measure(tables, subject, date, name, value, rng)
        sums.append(total)
        if non_target:
            state = "absent" if best == "CR" else "present"
            if final and mode == "non-target":
                state = "unequivocal"
            tables.add("states", subject=subject, date=date, lesion="NT01", state=state)
        if final and mode == "new":
            tables.add("states", subject=subject, date=date, lesion="NEW01", state="present")
        said = "PD" if final and event else best if best in {"CR", "PR"} else "SD"
        if best == "PR" and not (final and event) and factor > 0.7:
            said = "SD"
        if gap:
            said = "NE"
        if DISAGREE.get(subject) == number + 1:
            said = {"SD": "PD", "PR": "SD", "PD": "SD", "CR": "PR", "NE": "SD"}[said]
        tables.add("responses", subject=subject, date=date, response=said)
    if best != "CR":
        _check(best, baseline, sums, event, mode)
    follow = int(row["follow_up_days"])
    if subject in AFTER_PROGRESSION and last + 60 <= follow:
        date = scan(last + 60, "After progression")
        for name, _, size, _ in targets:
            _measure(tables, subject, date, name, _round(size * relative[-1] * 0.9), rng)
        if non_target:
            tables.add("states", subject=subject, date=date, lesion="NT01", state="present")
    return days


def _doses(
    tables: Tables, subject: str, first: dt.date, cycles: int, latest: dt.date, rng: random.Random
) -> list[dt.date]:
    """Courses and infusions; a cycle starts 21 days after the one before, now and then a few days later."""
    starts: list[dt.date] = []
    slack = (latest - first).days - CYCLE * (cycles - 1)
    delay = 0
    for number in range(cycles):
        if number and slack - delay > 8 and rng.random() < 0.12:
            delay += rng.randint(1, 4)
        starts.append(first + dt.timedelta(days=CYCLE * number + delay))
    for number, start in enumerate(starts, start=1):
        dose = "10" if number >= REDUCED.get(subject, 999) else "12"
        end = min(start + dt.timedelta(days=13), latest)
        hold = first + dt.timedelta(days=INTERRUPTED[subject]) if subject in INTERRUPTED else None
        if hold is not None and start < hold <= end + dt.timedelta(days=1):
            held_to = hold + dt.timedelta(days=6)
            tables.add(
                "doses",
                subject=subject,
                drug="anlotinib",
                start=start.isoformat(),
                end=(hold - dt.timedelta(days=1)).isoformat(),
                dose=dose,
                status="completed",
                reason="",
            )
            tables.add(
                "doses",
                subject=subject,
                drug="anlotinib",
                start=hold.isoformat(),
                end=held_to.isoformat(),
                dose="",
                status="on-hold",
                reason="not tolerated",
            )
        else:
            tables.add(
                "doses",
                subject=subject,
                drug="anlotinib",
                start=start.isoformat(),
                end=end.isoformat(),
                dose=dose,
                status="completed",
                reason="",
            )
        if subject == "RPS-011" and number >= 28:
            if number == 28:
                tables.add(
                    "doses",
                    subject=subject,
                    drug="camrelizumab",
                    start=start.isoformat(),
                    end="",
                    dose="",
                    status="stopped",
                    reason="not tolerated",
                )
            continue
        tables.add(
            "doses",
            subject=subject,
            drug="camrelizumab",
            start=start.isoformat(),
            end="",
            dose="200",
            status="completed",
            reason="",
        )
    return starts


def _visits(
    tables: Tables,
    subject: str,
    base: dt.date,
    starts: Iterable[dt.date],
    last: int,
    follow: int,
    alive: bool,
) -> None:
    for number, start in enumerate(starts, start=1):
        tables.add("visits", subject=subject, date=start.isoformat(), label=f"Cycle {number}")
    day = last + 75
    while day < follow - 20:
        tables.add("visits", subject=subject, date=_days(base, day), label="Follow-up")
        day += 90
    if alive and follow > last:
        tables.add("visits", subject=subject, date=_days(base, follow), label="Follow-up")


def _events(
    tables: Tables, rows: list[dict[str, str]], first: dict[str, dt.date], limit: dict[str, dt.date]
) -> None:
    action = {
        ("RPS-015", "Hypertension"): "dose-reduced",
        ("RPS-018", "Palmar-plantar erythrodysesthesia syndrome"): "dose-reduced",
        ("RPS-010", "Palmar-plantar erythrodysesthesia syndrome"): "drug-interrupted",
        ("RPS-022", "Mucositis oral"): "drug-interrupted", ("RPS-040", "Mucositis oral"): "drug-interrupted",
        ("RPS-011", "Hypophysitis"): "drug-withdrawn",
    }  # fmt: skip

    def add(subject: str, term: str, day: int, grade: int | str, **more: str) -> None:
        rng = random.Random(f"{subject}|{term}|{day}")
        start = first[subject] + dt.timedelta(days=day)
        end = min(start + dt.timedelta(days=rng.randint(6, 60)), limit[subject])
        base = {
            "subject": subject, "term": term, "date": start.isoformat(), "grade": str(grade), "causality": "possible",
            "suspects": "anlotinib", "resolved": end.isoformat() if end > start else "", "action": "", "serious": "",
            "status": "completed", "actuality": "actual",
        }  # fmt: skip
        tables.add("events", **(base | more))

    immune = {
        "Hypothyroidism",
        "Hyperthyroidism",
        "Hypophysitis",
        "Reactive cutaneous capillary endothelial proliferation",
    }
    for row in rows:
        subject, term, grade = row["subject"], row["term"], int(row["grade"])
        rng = random.Random(f"{subject}|{term}")
        more = {
            "causality": rng.choice(["possible", "probable", "related"]),
            "suspects": "camrelizumab" if term in immune else "anlotinib",
            "action": action.get((subject, term), "dose-not-changed"),
        }
        if term == "Hypophysitis":
            more["serious"] = "hospitalisation"
        add(subject, term, int(row["onset_day"]), grade, **more)
        if grade > 1 and int(row["onset_day"]) > 20 and rng.random() < 0.25:  # the same event earlier, milder
            add(subject, term, int(row["onset_day"]) - rng.randint(6, 15), 1, **(more | {"action": ""}))
    for subject, term, day, grade in (
        ("RPS-002", "Anemia", 30, 2), ("RPS-007", "Abdominal pain", 41, 3), ("RPS-012", "Constipation", 12, 1),
        ("RPS-016", "Anemia", 120, 3), ("RPS-026", "Abdominal pain", 20, 2), ("RPS-039", "Weight loss", 60, 1),
    ):  # fmt: skip
        add(subject, term, day, grade, causality="not-related", suspects="anlotinib")
    add("RPS-021", "Anemia", 70, 1, causality="unlikely")
    add("RPS-019", "Nausea", 33, 1, causality="")  # causality never recorded: unknown
    add("RPS-005", "Hypertension", -40, 1, causality="possible")  # before treatment: not emergent
    add("RPS-041", "Fatigue", -12, 2, causality="possible")
    add("RPS-003", "Fatigue", 25, 3, causality="related", status="entered-in-error")
    add("RPS-028", "Hypertension", 60, 3, causality="related", status="entered-in-error")
    add("RPS-048", "Infusion related reaction", 21, 2, causality="possible", actuality="potential")
    partial = next(
        row for row in tables.rows["events"] if row["subject"] == "RPS-034" and row["term"] == "Hypertension"
    )
    partial["resolved"] = partial["resolved"][:7]
    onset = next(
        row for row in tables.rows["events"] if row["subject"] == "RPS-033" and row["term"] == "Proteinuria"
    )
    onset["date"] = onset["date"][:7]


def _patient(
    tables: Tables,
    row: dict[str, str],
    base: dt.date,
    histology: str,
    death: str,
    rng: random.Random,
    *,
    status: str,
) -> None:
    born = base.replace(year=base.year - int(row["age"]), day=1) - dt.timedelta(days=rng.randint(20, 300))
    if (base.year - born.year - ((base.month, base.day) < (born.month, born.day))) != int(row["age"]):
        born = dt.date(base.year - int(row["age"]), base.month, 1) if base.day >= 1 else born
    onset = base - dt.timedelta(days=rng.randint(60, 900))
    surgery = (
        (base - dt.timedelta(days=rng.randint(120, 1500))).isoformat()
        if row["prior_surgery"] == "yes"
        else ""
    )
    if surgery and rng.random() < 0.2:
        surgery = surgery[:7]
    tables.add(
        "patients", subject=row["subject"], sex=row["sex"], birth_date=born.isoformat(),
        histology=HISTOLOGY[histology], grade=row["fnclcc_grade"], ecog=str(rng.choice([0, 0, 1, 1, 1, 2])),
        metastases=row["metastatic_sites"], onset=onset.isoformat()[: rng.choice([4, 7, 10])], surgery=surgery,
        earlier_line=f"{_days(base, -220)}/{_days(base, -100)}" if row["line"] == "2" else "",
        later_line="", consented=_days(base, -1), death=death, status=status,
    )  # fmt: skip


def _excluded(tables: Tables, number: int) -> None:
    """The eight who were treated and not analysed: five with one cycle, one carcinoma, two lost to follow-up."""
    subject = f"RPS-{number:03d}"
    rng = random.Random(subject)
    base = dt.date(2020, 1, 6) + dt.timedelta(days=rng.randint(0, 500))
    kind = "one" if number <= 62 else "carcinoma" if number == 63 else "lost"
    row = {
        "subject": subject, "sex": rng.choice(["male", "female"]), "age": str(rng.randint(32, 74)),
        "fnclcc_grade": str(rng.choice([1, 2, 3])), "metastatic_sites": "", "prior_surgery": rng.choice(["yes", "no"]),
        "line": "1", "best_overall_response": "SD", "pfs_days": "130", "pfs_event": "0", "follow_up_days": "150",
    }  # fmt: skip
    histology = "Sarcomatoid carcinoma" if kind == "carcinoma" else "Dedifferentiated liposarcoma"
    status = {"one": "off-study", "carcinoma": "ineligible", "lost": "withdrawn"}[kind]
    _patient(tables, row, base, histology, "", rng, status=status)
    first = base + dt.timedelta(days=1)
    cycles = {"one": 1, "carcinoma": 4, "lost": 2}[kind]
    if kind == "carcinoma":
        _scans(tables, row, base, rng)
    else:
        tables.add(
            "lesions", subject=subject, lesion="T01", role="TARGET", location="Retroperitoneum", node=""
        )
        tables.add("scans", subject=subject, date=base.isoformat(), label="Baseline", modality="CT")
        _measure(tables, subject, base.isoformat(), "T01", float(rng.randint(50, 120)), rng)
    starts = _doses(tables, subject, first, cycles, base + dt.timedelta(days=150), rng)
    if kind == "lost":
        tables.add(
            "doses",
            subject=subject,
            drug="camrelizumab",
            start=(starts[-1] + dt.timedelta(days=CYCLE)).isoformat(),
            end="",
            dose="",
            status="not-done",
            reason="lost to follow-up",
        )
    _visits(tables, subject, base, starts, 10_000, 0, alive=False)


def plan(answers: Path) -> Tables:
    """Plans every subject."""
    tables = Tables()
    with (answers / "cohort.csv").open(newline="", encoding="utf-8") as handle:
        cohort = list(csv.DictReader(handle))
    with (answers / "cohort_ae.csv").open(newline="", encoding="utf-8") as handle:
        events = list(csv.DictReader(handle))
    first: dict[str, dt.date] = {}
    limit: dict[str, dt.date] = {}
    for row in cohort:
        subject = row["subject"]
        rng = random.Random(subject)
        follow, last = int(row["follow_up_days"]), int(row["pfs_days"])
        latest = min(LAST, CUTOFF - dt.timedelta(days=follow))
        base = FIRST + dt.timedelta(days=rng.randint(0, (latest - FIRST).days))
        death = _days(base, follow) if row["dead"] == "1" else ""
        status = "off-study" if death or row["pfs_event"] == "1" else "on-study"
        _patient(tables, row, base, row["subtype"] or row["histology"], death, rng, status=status)
        days = _scans(tables, row, base, rng)
        cycles = int(row["cycles"])
        room = (last if row["pfs_event"] == "1" else follow) - CYCLE * (cycles - 1)
        first[subject] = base + dt.timedelta(days=min(rng.randint(0, 2), max(room, 0)))
        limit[subject] = base + dt.timedelta(days=follow)
        end = base + dt.timedelta(days=min(follow, last if row["pfs_event"] == "1" else follow))
        starts = _doses(tables, subject, first[subject], cycles, end, rng)
        _visits(tables, subject, base, starts, max(days), follow, alive=not death)
    _events(tables, events, first, limit)
    for number in range(58, 66):
        _excluded(tables, number)
    for row in tables.rows["patients"]:
        if row["subject"] == "RPS-011":  # chemotherapy after camrelizumab was stopped, with the tumour stable
            start, end = (first["RPS-011"] + dt.timedelta(days=days) for days in (600, 690))
            row["later_line"] = f"{start.isoformat()}/{end.isoformat()}"
    return tables


def main(answers: Path, target: Path) -> None:
    """Writes one CSV file per kind of fact."""
    target.mkdir(parents=True, exist_ok=True)
    for name, rows in plan(answers).rows.items():
        with (target / f"{name}.csv").open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
