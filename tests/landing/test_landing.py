"""The landing: what is current when, what was left out and why, and that nothing is lost or doubled."""

from __future__ import annotations

import json
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_adapter.arrivals import Arrival, Checkpoint, arrival, gone
from fhir_adapter.errors import LandingError, RunLocked
from fhir_adapter.landing import Landing


def make(type_: str, id_: str, version: str = "", updated: str = "", **content: Any) -> Arrival:
    """An arrival of a resource."""
    meta = {key: value for key, value in (("versionId", version), ("lastUpdated", updated)) if value}
    body = {"resourceType": type_, "id": id_, **({"meta": meta} if meta else {}), **content}
    return arrival(json.dumps(body).encode(), origin="test")


def ids(landing: Landing, sequence: int | None = None) -> list[str]:
    """What is current, as Type/id@version."""
    return [f"{item.type}/{item.id}@{item.version}" for item in landing.current(sequence)]


def test_order_and_subjects(tmp_path: Path) -> None:
    """Current resources come by type and id, subjects are sorted, shared ones have no subject."""
    with Landing.open(tmp_path / "site") as landing:
        landing.append(
            [
                make("Patient", "b"),
                make("Medication", "m"),
                make("Observation", "2", subject={"reference": "Patient/b"}),
                make("Observation", "1", subject={"reference": "http://server/fhir/Patient/a/_history/3"}),
                make("BodyStructure", "s", patient={"reference": "Patient/a"}),
                make("ResearchSubject", "r", individual={"reference": "Patient/b"}),
                make("Observation", "g", subject={"reference": "Group/b"}),
                make("Observation", "l", subject={"identifier": {"value": "b"}}),
            ]
        )
        assert ids(landing) == [
            "BodyStructure/s@", "Medication/m@", "Observation/1@", "Observation/2@", "Observation/g@",
            "Observation/l@", "Patient/b@", "ResearchSubject/r@",
        ]  # fmt: skip
        assert landing.subject_keys() == ["Patient/a", "Patient/b"]
        assert [item.id for item in landing.by_subject(["Patient/b", "Patient/a"])] == [
            "2",
            "b",
            "r",
            "s",
            "1",
        ]
        assert [item.id for item in landing.shared()] == ["m", "g", "l"]
        assert landing.get("Observation", "2") is not None
        assert landing.get("Observation", "3") is None


def test_versions_over_time(tmp_path: Path) -> None:
    """Each state of the landing can be read at its sequence number, for ever."""
    with Landing.open(tmp_path / "site") as landing:
        landing.append([make("Patient", "a", "1"), make("Patient", "b", "1")])
        first = landing.sequence
        landing.append([make("Patient", "a", "2"), make("Patient", "c", "1")])
        second = landing.sequence
        assert landing.mark_deleted("Patient", "b")
        third = landing.sequence
        landing.append([make("Patient", "b", "3")])
        assert ids(landing, first) == ["Patient/a@1", "Patient/b@1"]
        assert ids(landing, second) == ["Patient/a@2", "Patient/b@1", "Patient/c@1"]
        assert ids(landing, third) == ["Patient/a@2", "Patient/c@1"]
        assert ids(landing) == ["Patient/a@2", "Patient/b@3", "Patient/c@1"]
        assert landing.counts(first)["Patient"]["current"] == 2
        assert landing.counts(third)["Patient"] == {
            "current": 2, "superseded": 1, "deleted": 1, "own_output": 0, "unreadable": 0, "total": 4,
        }  # fmt: skip
        assert [(item.id, item.version, item.reason) for item in landing.left_out(third)] == [
            ("a", "1", "superseded"),
            ("b", "1", "deleted"),
        ]
        assert [(item.id, item.version, item.reason) for item in landing.left_out()] == [
            ("a", "1", "superseded"),
            ("b", "1", "superseded"),
        ]


def test_deleting_what_is_not_there_is_nothing(tmp_path: Path) -> None:
    """News of a deletion of what never landed, or is deleted already, leaves no row."""
    with Landing.open(tmp_path / "site") as landing:
        assert not landing.mark_deleted("Patient", "a")
        landing.append([make("Patient", "a"), gone("Patient", "a"), gone("Patient", "a")])
        assert (landing.sequence, ids(landing)) == (2, [])


def test_unchanged_content_appends_nothing(tmp_path: Path) -> None:
    """The same type, id and bytes: no row, no byte."""
    with Landing.open(tmp_path / "site") as landing:
        landing.append([make("Patient", "a")])
        size = (tmp_path / "site" / "segments" / "000001.ndjson").stat().st_size
        assert landing.append([make("Patient", "a")]).unchanged == 1
        assert landing.sequence == 1
        assert (tmp_path / "site" / "segments" / "000001.ndjson").stat().st_size == size


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("2", ""), ("10", "")),
        (("9", "2024-01-01T00:00:00+02:00"), ("1", "2024-01-01T00:00:00Z")),
        (("x", ""), ("y", "")),
    ],
)
def test_which_version_is_newer(tmp_path: Path, old: tuple[str, str], new: tuple[str, str]) -> None:
    """LastUpdated decides as an instant, then versionId as a number, else what came later."""
    with Landing.open(tmp_path / "site") as landing:
        landing.append([make("Patient", "a", *old), make("Patient", "a", *new)])
        if old != ("x", ""):
            landing.append([make("Patient", "a", *old, active=True)])
        assert ids(landing) == [f"Patient/a@{new[0]}"]


def test_lock_is_held_by_one(tmp_path: Path) -> None:
    """A second writer is turned away; a reader is not; afterwards the lock is free."""
    with Landing.open(tmp_path / "site") as landing:
        landing.append([make("Patient", "a")])
        with pytest.raises(RunLocked) as caught:
            Landing.open(tmp_path / "site")
        assert caught.value.exit_status == 50
        with Landing.open(tmp_path / "site", read_only=True) as reader:
            assert ids(reader) == ["Patient/a@"]
            with pytest.raises(LandingError, match="for reading only"):
                reader.append([make("Patient", "b")])
    Landing.open(tmp_path / "site").close()


def test_everything_is_private(tmp_path: Path) -> None:
    """Folders are 0700 and files 0600."""
    with Landing.open(tmp_path / "state" / "site") as landing:
        landing.append([make("Patient", "a")])
        modes = {
            path.name: stat.S_IMODE(path.stat().st_mode)
            for path in [tmp_path / "state", *tmp_path.rglob("state/**/*")]
        }
    assert {name for name, mode in modes.items() if mode != (0o700 if "." not in name else 0o600)} == set()


def test_orphan_tail_is_cut(tmp_path: Path) -> None:
    """Bytes and segments that a killed run left without their transaction go when the landing is opened."""
    segments = tmp_path / "site" / "segments"
    with Landing.open(tmp_path / "site") as landing:
        landing.append([make("Patient", "a")], Checkpoint("k", {"since": "x"}))
    whole = (segments / "000001.ndjson").read_bytes()
    with (segments / "000001.ndjson").open("ab") as handle:
        handle.write(b'{"resourceType":"Patient","id":"b"}\n{"resour')
    (segments / "000002.ndjson").write_bytes(b"begun")
    with Landing.open(tmp_path / "site") as landing:
        assert (segments / "000001.ndjson").read_bytes() == whole
        assert not (segments / "000002.ndjson").exists()
        landing.append([make("Patient", "c")])
        assert ids(landing) == ["Patient/a@", "Patient/c@"]
        assert landing.verify() == 2
        assert landing.checkpoint("k") == {"since": "x"}


def test_failed_batch_leaves_nothing(tmp_path: Path) -> None:
    """If a batch breaks in the middle neither its rows, nor its bytes, nor its checkpoint are there."""

    def items() -> Any:
        yield make("Patient", "b")
        raise KeyboardInterrupt

    with Landing.open(tmp_path / "site") as landing:
        landing.append([make("Patient", "a")])
        with pytest.raises(KeyboardInterrupt):
            landing.append(items(), Checkpoint("k", {}))
        assert landing.checkpoint("k") is None
        landing.append([make("Patient", "c")])
        assert ids(landing) == ["Patient/a@", "Patient/c@"]
        assert landing.verify() == 2


@pytest.mark.parametrize("damage", ["truncated", "missing", "changed"])
def test_damage_is_told(tmp_path: Path, damage: str) -> None:
    """A segment that is short, missing or altered is an error of the landing."""
    with Landing.open(tmp_path / "site") as landing:
        landing.append([make("Patient", "a")])
    segment = tmp_path / "site" / "segments" / "000001.ndjson"
    content = segment.read_bytes()
    if damage == "missing":
        segment.unlink()
    else:
        segment.write_bytes(
            content[:-5] if damage == "truncated" else content.replace(b"Patient", b"patient")
        )

    def read() -> None:
        with Landing.open(tmp_path / "site", read_only=True) as landing:
            landing.verify()

    with pytest.raises(LandingError, match=r"shorter|missing|hash differs") as caught:
        read()
    assert "000001.ndjson" in caught.value.where


def test_index_of_another_version_or_none(tmp_path: Path) -> None:
    """An index of another version, or a file that is none, is not touched."""
    Landing.open(tmp_path / "site").close()
    connection = sqlite3.connect(tmp_path / "site" / "index.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(LandingError, match="version 99"):
        Landing.open(tmp_path / "site")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "index.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(LandingError, match="cannot be read"):
        Landing.open(tmp_path / "other")
    with pytest.raises(LandingError, match="no landing here"):
        Landing.open(tmp_path / "nowhere", read_only=True)
    # The lock was given back each time.
    with pytest.raises(LandingError, match="version 99"):
        Landing.open(tmp_path / "site")


def test_segments_roll(tmp_path: Path) -> None:
    """A segment that has reached its length is followed by another; reading goes over both."""
    with Landing.open(tmp_path / "site", segment_bytes=100) as landing:
        for number in range(5):
            landing.append([make("Patient", f"p{number}", text="x" * 60)])
        assert len(list((tmp_path / "site" / "segments").iterdir())) == 5
    with Landing.open(tmp_path / "site", segment_bytes=100) as landing:
        landing.append([make("Patient", "p9")])
        assert len(ids(landing)) == 6
        assert landing.verify() == 6


def test_references_that_are_missing(tmp_path: Path) -> None:
    """References to shared types are remembered until what they name has landed."""
    with Landing.open(tmp_path / "site") as landing:
        landing.append(
            [make("MedicationAdministration", "x", medicationReference={"reference": "Medication/m"})]
        )
        assert landing.missing_references(["Medication", "Organization"]) == [("Medication", "m")]
        landing.append([make("Medication", "m")])
        assert landing.missing_references(["Medication"]) == []


def test_checkpoints(tmp_path: Path) -> None:
    """A checkpoint is what was set last, and stays after closing."""
    with Landing.open(tmp_path / "site") as landing:
        assert landing.checkpoint("k") is None
        landing.set_checkpoint("k", {"since": "1"})
        landing.set_checkpoint("k", {"since": "2"})
    with Landing.open(tmp_path / "site", read_only=True) as landing:
        assert landing.checkpoint("k") == {"since": "2"}


_STEP = st.tuples(
    st.sampled_from(["Patient", "Observation"]), st.sampled_from("abc"), st.integers(0, 3), st.booleans()
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(_STEP, max_size=6), max_size=6))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, batches: list[list[Any]]) -> None:
    """Whatever arrives in whatever batches, at each sequence number the landing is what a dict would be."""
    folder = tmp_path_factory.mktemp("landing") / "site"
    expected: dict[tuple[str, str], int] = {}
    history: dict[int, dict[tuple[str, str], int]] = {0: {}}
    for batch in batches:
        with Landing.open(folder, segment_bytes=200) as landing:
            items = []
            for type_, id_, value, lost in batch:
                if lost:
                    items.append(gone(type_, id_))
                    expected.pop((type_, id_), None)
                else:
                    items.append(make(type_, id_, value=value))
                    expected[type_, id_] = value
            landing.append(items)
            history[landing.sequence] = dict(expected)
    with Landing.open(folder) as landing:
        landing.verify()
        for sequence, state in history.items():
            found = {
                (item.type, item.id): json.loads(item.body)["value"] for item in landing.current(sequence)
            }
            assert found == state
            table = landing.counts(sequence)
            assert sum(row["current"] for row in table.values()) == len(state)
            assert sum(row["total"] for row in table.values()) == len(state) + len(
                list(landing.left_out(sequence))
            )


def test_killed_between_segment_and_index(tmp_path: Path) -> None:
    """A process killed after the bytes are on disk and before the index knows them loses that batch alone."""
    script = f"""
import os, pathlib, signal
from fhir_adapter.arrivals import Checkpoint, arrival
from fhir_adapter.landing import Landing, segments

write = segments.SegmentWriter.write
def killed(self, data):
    write(self, data)
    os.kill(os.getpid(), signal.SIGKILL)

item = lambda name: arrival(b'{{"resourceType":"Patient","id":"' + name + b'"}}', origin="test")
landing = Landing.open(pathlib.Path({str(tmp_path / "site")!r}))
landing.append([item(b"a")], Checkpoint("a", {{}}))
segments.SegmentWriter.write = killed
landing.append([item(b"b")], Checkpoint("b", {{}}))
"""
    ended = subprocess.run([sys.executable, "-c", script], check=False)
    assert ended.returncode == -signal.SIGKILL
    segment = tmp_path / "site" / "segments" / "000001.ndjson"
    assert segment.read_bytes().count(b"\n") == 2
    with Landing.open(tmp_path / "site") as landing:
        assert segment.read_bytes() == b'{"resourceType":"Patient","id":"a"}\n'
        assert (ids(landing), landing.checkpoint("a"), landing.checkpoint("b")) == (["Patient/a@"], {}, None)
        assert landing.append([make("Patient", "b")]).new == 1
