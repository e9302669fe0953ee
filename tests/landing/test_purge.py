"""Purging subjects: nothing of theirs is left on disk, and nothing of the others is touched."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from fhir_adapter.arrivals import Arrival, Checkpoint, arrival, gone, unreadable
from fhir_adapter.landing import Landing


def make(type_: str, id_: str, **content: Any) -> Arrival:
    """An arrival of a resource."""
    return arrival(json.dumps({"resourceType": type_, "id": id_, **content}).encode(), origin="test")


def of(id_: str) -> dict[str, Any]:
    """The subject of a resource."""
    return {"subject": {"reference": f"Patient/{id_}"}}


def on_disk(folder: Path) -> bytes:
    """Every byte of a landing."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def fill(landing: Landing) -> None:
    """Two persons, one of them with two records, and what is about nobody."""
    landing.append(
        [
            make("Patient", "leaves-0001", note="first"),
            make("Patient", "stays-0002"),
            make("Observation", "o-leaves-1", **of("leaves-0001"), value="first"),
            make("Observation", "o-stays-1", **of("stays-0002")),
            make("Group", "g", member=[{"entity": {"reference": "Patient/leaves-0001"}}]),
        ],
        [
            Checkpoint("Patient/leaves-0001|q", {"since": "x"}),
            Checkpoint("Patient/stays-0002|q", {"since": "x"}),
        ],
    )
    landing.append(
        [
            make("Observation", "o-leaves-1", **of("leaves-0001"), value="second"),
            make(
                "Observation",
                "o-leaves-2",
                **of("leaves-0001"),
                medication={"reference": "Medication/only-leaves"},
            ),
            gone("Observation", "o-leaves-2"),
            make("Patient", "leaves-old-0003", link=[{"other": {"reference": "Patient/leaves-0001"}}]),
            make("Observation", "o-leaves-3", **of("leaves-old-0003")),
            unreadable(
                b'{"resourceType": "Observation", "subject": {"reference": "Patient/leaves-0001"', "f:1"
            ),
            unreadable(b"not FHIR", "f:2"),
        ]
    )


def test_nothing_is_left_of_a_purged_subject(tmp_path: Path) -> None:
    """No byte in segments, index or its log; old versions, tombstones, linked records and checkpoints go too."""
    with Landing.open(tmp_path / "site", segment_bytes=200) as landing:
        fill(landing)
        assert b"o-leaves" in on_disk(tmp_path / "site")
        last = landing.sequence
        purged = landing.purge(["Patient/leaves-0001"])
        assert (purged.subjects, purged.versions, purged.unreadable) == (2, 7, 1)
        assert (purged.unattributed, purged.naming, purged.checkpoints) == (1, 1, 1)
        rest = on_disk(tmp_path / "site")
        assert b"o-leaves" not in rest
        assert b"only-leaves" not in rest
        assert b"leaves-old-0003" not in rest
        assert rest.count(b"leaves-0001") == 1  # the Group that names its members stays, and was counted
        assert [f"{item.type}/{item.id}" for item in landing.current()] == [
            "Group/g", "Observation/o-stays-1", "Patient/stays-0002",
        ]  # fmt: skip
        assert landing.checkpoint("Patient/stays-0002|q") == {"since": "x"}
        # What comes next gets a number of its own, so that older runs never see it.
        landing.append([make("Patient", "later")])
        assert landing.sequence == last + 1
        assert landing.verify() == 5
    with Landing.open(tmp_path / "site") as landing:
        assert landing.purge(["Patient/leaves-0001"]).versions == 0
        assert landing.verify() == 5


def test_a_killed_purge_is_finished_on_opening(tmp_path: Path) -> None:
    """Between the transaction and the clean-up an old segment and free pages lie about: they go."""
    with Landing.open(tmp_path / "site") as landing:
        fill(landing)
        old = (tmp_path / "site" / "segments" / "000001.ndjson").read_bytes()
        landing.purge(["Patient/leaves-0001"])
    (tmp_path / "site" / "segments" / "000001.ndjson").write_bytes(old)
    index = sqlite3.connect(tmp_path / "site" / "index.sqlite")
    index.execute("INSERT INTO meta VALUES ('purging', '1')")
    index.commit()
    index.close()
    with Landing.open(tmp_path / "site") as landing:
        assert b"o-leaves" not in on_disk(tmp_path / "site")
        assert landing.verify() == 4
