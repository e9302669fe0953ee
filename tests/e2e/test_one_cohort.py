"""One cohort, written in each dialect and release of oncology FHIR, gives equal datasets, row for row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fhir_adapter.demo.synthetic.dialects import DIALECTS, Dialect, choices
from fhir_adapter.demo.synthetic.facts import Subject
from fhir_adapter.demo.synthetic.releases import RELEASES, Release

from .dialect_cohort import Mapped, Row, cohort, run

#: Twelve of the endless cohort of seed 0 who together have every feature.
SUBJECTS = cohort((1, 2, 3, 6, 51, 123, 166, 200, 216, 225, 252, 379), seed=0)
#: In `make test` each dialect is seen in one release, and each release with several.
SLICE = [(name, RELEASES[number % 3]) for number, name in enumerate(DIALECTS)]
#: A dialect whose codes are known to say less than the fact.
LOSSY = {"icaredata"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Mapped:
    """The cohort in the first dialect and release, to which all others are compared."""
    return run(tmp_path_factory.mktemp("mcode"), SUBJECTS, DIALECTS["mcode"], "R4")


def equal(plain: Mapped, found: Mapped) -> None:
    """Every dataset has the same rows."""
    assert found.quarantined == 0
    assert set(plain.datasets) == set(found.datasets)
    for name, expected in plain.datasets.items():
        rows = found.datasets[name]
        different = [
            (key, one[key], other[key])
            for one, other in zip(expected, rows, strict=False)
            for key in one
            if one[key] != other[key]
        ]
        assert different[:8] == [], name
        assert len(expected) == len(rows), name


def _every(subjects: Sequence[Subject]) -> dict[str, set[object]]:
    return {
        "responses": {item.response for one in subjects for item in one.responses},
        "states": {item.state for one in subjects for item in one.findings},
        "roles": {lesion.role for one in subjects for lesion in one.lesions},
        "grades": {event.grade for one in subjects for event in one.events},
        "causalities": {event.causality for one in subjects for event in one.events},
        "outcomes": {event.outcome for one in subjects for event in one.events},
        "seriousness": {event.serious for one in subjects for event in one.events},
        "doses": {dose.status for one in subjects for dose in one.doses},
        "sizes": {(item.mm is None, item.too_small) for one in subjects for item in one.sizes},
        "nodes": {lesion.nodal for one in subjects for lesion in one.lesions},
        "participation": {one.participation for one in subjects},
        "fnclcc": {one.grade for one in subjects},
        "ecog": {one.ecog for one in subjects},
        "deaths": {one.death is None for one in subjects},
        "arms": {one.arm for one in subjects},
    }


def test_the_cohort_has_every_feature() -> None:
    """Each kind of fact that a dialect can write is there; else a dialect could be broken and nobody would see it."""
    found = _every(SUBJECTS)
    assert found["responses"] == {"CR", "PR", "SD", "PD", "NE"}
    assert found["states"] == {"absent", "present", "unequivocal", "equivocal", "not-assessed"}
    assert found["roles"] == {"TARGET", "NON-TARGET", "NEW"}
    assert found["grades"] == {1, 2, 3, 4, 5}
    assert found["causalities"] == {"not-related", "unlikely", "possible", "probable", "related", None}
    assert found["outcomes"] == {"resolved", "recovering", "ongoing", "sequelae", "fatal"}
    assert found["doses"] == {"completed", "not-done", "on-hold", "stopped"}
    assert found["sizes"] == {(False, False), (True, False), (False, True)}
    assert found["nodes"] == {True, False}
    assert found["participation"] >= {"off-study", "follow-up", "withdrawn"}
    assert (found["fnclcc"], found["ecog"]) == ({1, 2, 3}, {0, 1, 2})
    assert (found["deaths"], found["arms"]) == ({True, False}, {"Arm A", "Arm B"})


def _rows(rows: list[Row], *columns: str, **where: Any) -> list[tuple[Any, ...]]:
    chosen = [row for row in rows if all(row[name] == value for name, value in where.items())]
    return [tuple(row[name] for name in columns) for row in chosen]


def test_the_first_dialect_brings_the_facts_back(plain: Mapped) -> None:
    """What was written is what is read: sizes, responses, grades, causality, doses, arms."""
    sets = plain.datasets
    written = {
        (one.usubjid, one.scans[item.scan].date, item.lesion): None if item.too_small else item.mm
        for one in SUBJECTS
        for item in one.sizes
    }
    tr = [row for row in sets["TR"] if row["TRTESTCD"] != "TUMSTATE"]
    assert written == {tuple(row[:3]): row[3] for row in _rows(tr, "USUBJID", "TRDTC", "TRLNKID", "TRSTRESN")}
    said = [
        (one.usubjid, one.scans[item.scan].date, item.response) for one in SUBJECTS for item in one.responses
    ]
    assert sorted(said) == sorted(_rows(sets["RS"], "USUBJID", "RSDTC", "RSSTRESC"))
    words = {None: "None", "not-related": "NOT RELATED"}
    events = [
        (
            one.usubjid,
            item.date,
            item.term,
            item.grade,
            words.get(item.causality, str(item.causality).upper()),
        )
        for one in SUBJECTS
        for item in one.events
    ]
    found = _rows(sets["AE"], "USUBJID", "AESTDTC", "AEDECOD", "AETOXGR", "AEREL")
    assert sorted(events) == sorted((*row[:4], str(row[4])) for row in found)
    assert sum(len(one.doses) for one in SUBJECTS) == len(sets["EX"])
    assert [(one.arm,) for one in SUBJECTS] == _rows(sets["DM"], "ARM")
    assert [(str(one.ecog),) for one in SUBJECTS] == _rows(sets["SC"], "SCSTRESC", SCTESTCD="ECOG")
    assert [(str(one.grade),) for one in SUBJECTS] == _rows(sets["SC"], "SCSTRESC", SCTESTCD="FNCLCC")


def test_the_named_dialects_have_every_choice() -> None:
    """No way of writing a fact is left without a dialect that has it."""
    for kind, ways in choices().items():
        assert set(ways) == {getattr(dialect, kind) for dialect in DIALECTS.values()}, kind


@pytest.mark.parametrize(("name", "release"), SLICE)
def test_equal_datasets(plain: Mapped, tmp_path: Path, name: str, release: Release) -> None:
    """Each dialect in one release."""
    found = run(tmp_path, SUBJECTS, DIALECTS[name], release)
    equal(plain, found)
    allowed = {"lossy-code"} if name in LOSSY else set()
    assert found.findings - plain.findings - allowed - {"ambiguous-code"} == set()


@pytest.mark.soak
@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", DIALECTS)
def test_equal_datasets_of_all(plain: Mapped, tmp_path: Path, name: str, release: Release) -> None:
    """Each dialect in each release."""
    equal(plain, run(tmp_path, SUBJECTS, DIALECTS[name], release))


@pytest.mark.soak
@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(
    ("kind", "way"), [(kind, way) for kind, ways in choices().items() for way in ways[1:]]
)
def test_equal_datasets_of_each_choice(
    plain: Mapped, tmp_path: Path, kind: str, way: str, release: Release
) -> None:
    """Each way of writing one kind of fact, with all else as in the first dialect, in each release."""
    dialect: Dialect = replace(DIALECTS["mcode"], **{kind: way})
    equal(plain, run(tmp_path, SUBJECTS, dialect, release))
