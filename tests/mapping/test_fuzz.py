"""Spoilt resources among good ones, from a folder of NDJSON to the datasets: a resource fails by itself."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from mapping_support import six, six_study
from mutants import Spoiler, renamed

from fhir_adapter.accounting import NOT_NEEDED, check_sums, summary
from fhir_adapter.connectors import plan_from_study, pull
from fhir_adapter.engines.partition import DOMAINS
from fhir_adapter.landing import Landed, Landing, LeftOut
from fhir_adapter.mapping.stage import Mapped, map_resources
from fhir_adapter.site import Site, Source

SHARED = {"six-study", "six-anlotinib"}
#: Subjects are named by the site's key, so that a spoilt identifier can be nobody else's.
STUDY = six_study(identity={}, cohort={"candidates": {"all_patients": True}})
KEY = b"a key of the test, and no secret"


def spoilt(seed: int, number: int) -> list[bytes]:
    """So many spoilt resources of copies of the six patients; every second Patient is left whole."""
    spoiler = Spoiler(seed)
    lines: list[bytes] = []
    copies = 0
    while len(lines) < number:
        copies += 1
        for resource in six():
            if resource["id"] in SHARED:
                continue
            other = renamed(resource, f"z{copies}")
            whole = resource["resourceType"] == "Patient" and copies % 2
            lines.append(json.dumps(other).encode() if whole else spoiler.spoil(other))
    return lines[:number]


def land_and_map(folder: Path, lines: list[bytes]) -> tuple[Mapped, list[Landed], list[LeftOut]]:
    """Drops lines as a file, pulls it, maps what landed; and holds the accounting to its sums."""
    source = folder / "source"
    source.mkdir(parents=True)
    flat = [line.replace(b"\n", b" ").replace(b"\r", b" ") for line in lines]
    (source / "all.ndjson").write_bytes(b"\n".join(flat) + b"\n")
    site = Site(id="fuzz", source=Source(kind="files", path=source))
    with Landing.open(folder / "state") as landing:
        report = pull(site, plan_from_study({"all_patients": True}, []), landing)
        current, aside = list(landing.current()), list(landing.left_out())
        landed = {type_: row["total"] for type_, row in landing.counts().items()}
    assert report.after == sum(landed.values()) == len(lines)
    mapped = map_resources(current, STUDY, key=KEY)
    disposed = summary(mapped.dispositions)
    check_sums({type_: landed[type_] - sum(item.type == type_ for item in aside) for type_ in landed},
               {type_: disposed.get(type_, {"total": 0}) for type_ in landed})  # fmt: skip
    return mapped, current, aside


def stand_or_fall_alone(folder: Path, seed: int, number: int) -> None:
    """The whole of the test, for so many spoilt resources."""
    good = [json.dumps(resource).encode() for resource in six()]
    alone, *_ = land_and_map(folder / "alone", good)
    lines = good + spoilt(seed, number)
    random.Random(seed).shuffle(lines)
    together, current, aside = land_and_map(folder / "together", lines)

    # Each resource is mapped, not needed for a known reason, or quarantined with its place and a sentence.
    assert len(current) == len(together.dispositions)
    assert Counter({"unreadable", "superseded"}).keys() >= {item.reason for item in aside}
    said = {(item.resource, item.code): item.text for item in together.findings}
    for item in together.dispositions:
        if item.outcome == "quarantined":
            assert item.path.startswith("$"), item
            assert said[f"{item.type}/{item.id}", item.reason].startswith(("a ", "an ")), item
        else:
            assert item.outcome == "used" or item.reason in NOT_NEEDED, item
    outcomes = Counter(item.outcome for item in together.dispositions)
    assert min(outcomes["used"], outcomes["quarantined"], outcomes["not-needed"]) > number // 50

    # The good ones give exactly the rows and findings that they give alone.
    subjects = set(alone.subjects["USUBJID"])
    theirs = {f"{item.type}/{item.id}" for item in alone.dispositions}
    for name in DOMAINS:
        found = together.datasets[name]
        mine = found[found["USUBJID"].isin(subjects)].reset_index(drop=True)
        assert mine[_columns(mine)].equals(alone.datasets[name][_columns(mine)]), name
    whole = {f"{item.type}/{item.id}": (item.outcome, item.reason) for item in together.dispositions}
    assert all(
        (item.outcome, item.reason) == whole[f"{item.type}/{item.id}"]
        for item in alone.dispositions
    )  # fmt: skip
    assert _about(alone, theirs) == _about(together, theirs)


def _columns(frame: object) -> list[str]:
    return [str(name) for name in frame.columns]  # type: ignore[attr-defined]


def _about(mapped: Mapped, keys: set[str]) -> list[bytes]:
    return sorted(msgspec.json.encode(item) for item in mapped.findings if item.resource in keys)


def test_ten_thousand_spoilt_resources(tmp_path: Path) -> None:
    """No crash, no hang; each one is accounted for; the six patients among them come out as if alone."""
    stand_or_fall_alone(tmp_path, seed=20240229, number=10_000)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
def test_a_hundred_thousand_spoilt_resources(tmp_path: Path, seed: int) -> None:
    """The same ten times, with other seeds."""
    stand_or_fall_alone(tmp_path, seed=seed, number=10_000)
