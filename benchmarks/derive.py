"""Grades and summarises simulated tumour assessments, and puts the time beside one groupby-cumulative pass.

    python benchmarks/derive.py [--visits 1000000] [--subjects 150000] [--shuffle]

Everything runs on one core. Prints the seconds of each step, the peak of resident memory, and two ratios:
against one pandas groupby-cumulative pass (`cummin` by USUBJID) over the same rows of TR, and against a tenth
of the visits. The limits are 20, 2 GB and 11; the exit status is 1 if one is exceeded. Rows are by subject
and visit, as the mapping leaves them, or with --shuffle in any order: then most of the time goes where
pandas' own pass loses it, in looking up subject names that lie anywhere in memory.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time

import numpy as np
import pandas as pd

LIMIT_TIMES_GROUPBY = 20.0
LIMIT_TENFOLD = 11.0
LIMIT_BYTES = 2_000_000_000


def cohort(
    visits: int, subjects: int, *, shuffle: bool = False, seed: int = 1
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """TU and TR of subjects with two targets, of which one can be a node, and a non-target lesion."""
    rng = np.random.default_rng(seed)
    subject_of_visit = np.sort(
        np.concatenate([np.arange(subjects), rng.integers(0, subjects, visits - subjects)])
    )
    first = np.r_[True, subject_of_visit[1:] != subject_of_visit[:-1]]
    number = np.arange(visits) - np.maximum.accumulate(np.where(first, np.arange(visits), 0))
    names = np.array([f"STUDY-{n:07d}" for n in range(subjects)], dtype=object)
    labels = np.array([f"VISIT {n:02d}" for n in range(number.max() + 1)], dtype=object)
    links = np.array(["T01", "T02", "NT01"], dtype=object)
    node = rng.random(subjects) < 1 / 3

    tu = pd.DataFrame(
        {
            "USUBJID": np.repeat(names, 3),
            "TULNKID": np.tile(links, subjects),
            "TUSTRESC": np.tile(np.array(["TARGET", "TARGET", "NON-TARGET"], dtype=object), subjects),
            "NODAL": np.c_[np.zeros(subjects, bool), node, np.zeros(subjects, bool)].ravel(),
        }
    )
    row = np.arange(visits * 3)
    row_visit, lesion = np.divmod(rng.permutation(row) if shuffle else row, 3)
    subject = subject_of_visit[row_visit]
    size = np.round(rng.gamma(4.0, 6.0, len(row_visit)), 1)
    size[rng.random(len(size)) < 0.05] = np.nan
    size[lesion == 2] = np.nan
    state = rng.choice(
        np.array(["ABSENT", "PRESENT", "UNEQUIVOCAL"], dtype=object), len(size), p=[0.28, 0.7, 0.02]
    )
    tests = np.array(["LDIAM", "LPERP", "TUMSTATE"], dtype=object)
    test = tests[np.where(lesion == 2, 2, (lesion == 1) & node[subject])]
    day = np.datetime64("2020-01-01", "ns") + (number[row_visit] * 42 + 5).astype("timedelta64[D]")
    tr = pd.DataFrame(
        {
            "USUBJID": names[subject],
            "TRLNKID": links[lesion],
            "VISIT": labels[number[row_visit]],
            "ADT": day,
            "TRTESTCD": test,
            "TRSTRESN": size,
            "TRSTRESC": np.where(lesion == 2, state, None),
        }
    )
    return tu, tr


def measure(visits: int, subjects: int, shuffle: bool) -> dict[str, float]:
    """Seconds of each step, and bytes of memory at the peak."""
    from fhir_adapter.derive import recist

    tu, tr = cohort(visits, subjects, shuffle=shuffle)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seconds: dict[str, float] = {}

    start = time.perf_counter()
    graded = recist.visit_responses(tu, tr)
    seconds["visit_responses"] = time.perf_counter() - start

    baseline = graded.drop_duplicates("USUBJID")[["USUBJID", "ADT"]]
    rs = graded.loc[graded["OVRLRESP"].notna(), ["USUBJID", "ADT", "OVRLRESP"]]
    rs = rs.rename(columns={"OVRLRESP": "AVALC"})
    for function in (
        recist.best_overall_response,
        recist.confirmed_best_overall_response,
        recist.objective_response,
        recist.confirmed_objective_response,
    ):
        start = time.perf_counter()
        function(rs, baseline)
        seconds[function.__name__] = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    start = time.perf_counter()
    tr.groupby("USUBJID")["TRSTRESN"].cummin()
    groupby = time.perf_counter() - start
    start = time.perf_counter()
    graded.groupby("USUBJID")["SUMDIAM"].cummin()
    seconds_visits = time.perf_counter() - start
    return {
        **seconds,
        "total": sum(seconds.values()),
        "groupby over tr": groupby,
        "groupby over visits": seconds_visits,
        "inputs, bytes": before,
        "peak, bytes": peak,
    }


def in_a_process(visits: int, subjects: int, shuffle: bool) -> dict[str, float]:
    """The measurements of a process of its own, so that memory is that of this size alone."""
    command = [sys.executable, __file__, "--one", "--visits", str(visits), "--subjects", str(subjects)]
    command += ["--shuffle"] * shuffle
    alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    lines = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, **alone}
    ).stdout.splitlines()
    return {name: float(value) for name, value in (line.rsplit("\t", 1) for line in lines)}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--visits", type=int, default=1_000_000)
    parser.add_argument("--subjects", type=int, default=150_000)
    parser.add_argument("--shuffle", action="store_true", help="rows in any order")
    parser.add_argument("--one", action="store_true", help="measure this size alone, in this process")
    arguments = parser.parse_args()
    if arguments.one:
        for name, value in measure(arguments.visits, arguments.subjects, arguments.shuffle).items():
            print(f"{name}\t{value}")
        return 0
    small = in_a_process(arguments.visits // 10, arguments.subjects // 10, arguments.shuffle)
    large = in_a_process(arguments.visits, arguments.subjects, arguments.shuffle)
    print(f"{'':36}{arguments.visits // 10:>14,}{arguments.visits:>14,}  visits")
    for name in large:
        form = ",.0f" if name.endswith("bytes") else ".3f"
        print(f"{name:36}{small[name]:>14{form}}{large[name]:>14{form}}")
    times = large["total"] / large["groupby over tr"]
    tenfold = large["total"] / small["total"]
    print(f"total / groupby over tr: {times:.1f} (at most {LIMIT_TIMES_GROUPBY:.0f})")
    print(f"total / groupby over visits: {large['total'] / large['groupby over visits']:.1f}")
    print(f"ten times the visits: {tenfold:.1f} times the time (at most {LIMIT_TENFOLD:.0f})")
    print(f"peak memory: {large['peak, bytes'] / 1e9:.2f} GB (below {LIMIT_BYTES / 1e9:.0f})")
    good = times <= LIMIT_TIMES_GROUPBY and tenfold <= LIMIT_TENFOLD and large["peak, bytes"] < LIMIT_BYTES
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
