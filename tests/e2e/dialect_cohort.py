"""One cohort in a dialect and a release, through pull, map and derive; and the datasets as they can be compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from fhir_adapter.datasets import metadata, read_dataset
from fhir_adapter.demo.synthetic.cohort import DEFAULT_STUDY, synthetic_subject
from fhir_adapter.demo.synthetic.dialects import Dialect
from fhir_adapter.demo.synthetic.encode.tumour import NEUTRAL
from fhir_adapter.demo.synthetic.facts import Subject
from fhir_adapter.demo.synthetic.releases import Release
from fhir_adapter.demo.synthetic.stream import cohort_resources, write_files
from fhir_adapter.pipeline import Settings, new_run

DATA = Path(__file__).parent.parent / "data" / "dialects"
STUDY = replace(DEFAULT_STUDY, arms=("Arm A", "Arm B"))

Row = dict[str, Any]

#: Where a row came from, and values as the source wrote them: these tell one dialect from another and must differ.
SOURCE = frozenset({"SRCVIEW", "SRCREF"})
AS_WRITTEN = frozenset(
    {"TUORRES", "TRORRES", "TRORRESU", "TRREASND", "RSORRES", "SCORRES", "AETERM", "CMTRT"}
)


@dataclass(frozen=True)
class Mapped:
    """What a run left: datasets by name in comparable form, codes of its findings, and how many were quarantined."""

    datasets: dict[str, list[Row]]
    findings: frozenset[str]
    quarantined: int


def cohort(numbers: Sequence[int], seed: int) -> list[Subject]:
    """Subjects of a cohort, with a few results each: laboratory values are no dialect."""
    found = [synthetic_subject(number, seed=seed, study=STUDY) for number in numbers]
    return [
        replace(one, visits=tuple(replace(visit, results=visit.results[:1]) for visit in one.visits))
        for one in found
    ]


def run(folder: Path, subjects: Sequence[Subject], dialect: Dialect, release: Release) -> Mapped:
    """Writes the cohort into files, and runs pull, map and derive on them."""
    write_files(cohort_resources(subjects, study=STUDY, dialect=dialect, release=release), folder / "source")
    site = folder / "site.yaml"
    source = {"kind": "files", "path": "source"}
    site.write_text(json.dumps({"id": "one", "source": source, "state_dir": str(folder / "state")}), "utf-8")
    current = new_run(DATA / "study.yaml", site, folder / "runs", Settings(quiet=True))
    with current.log, current.locked():
        for stage in ("pull", "map", "derive"):
            current.stage(stage)
    datasets = {
        name: comparable(read_dataset(current.folder.datasets, name))
        for name in metadata()
        if (current.folder.datasets / f"{name.lower()}.parquet").exists()
    }
    accounting = json.loads(current.folder.accounting.read_text("utf-8"))["disposed"]
    codes = frozenset(item.code for item in current.findings())
    return Mapped(datasets, codes, sum(sum(row["quarantined"].values()) for row in accounting.values()))


def comparable(frame: pd.DataFrame) -> list[Row]:
    """Rows of a dataset without the columns that have to differ, and with lesions under their own names."""
    names = [name for name in frame.columns if name not in SOURCE | AS_WRITTEN]
    return [
        {name: _plain(value) for name, value in zip(names, row, strict=True)}
        for row in frame[names].itertuples(index=False, name=None)
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.removeprefix(NEUTRAL)
    return None if pd.isna(value) else value
