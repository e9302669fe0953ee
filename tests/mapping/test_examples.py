"""Each way of writing a fact has an example resource, the row that it becomes, and a source (tests/data/dialects)."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import mapping_support as support
import pytest
from ruamel.yaml import YAML

from fhir_adapter.demo.synthetic.dialects import choices
from fhir_adapter.demo.synthetic.stream import cohort_resources
from fhir_adapter.mapping.stage import map_resources
from fhir_adapter.study import load_study

DATA = Path(__file__).parent.parent / "data" / "dialects"
BUILD = runpy.run_path(str(DATA / "build.py"))
EXAMPLES: dict[str, dict[str, Any]] = json.loads((DATA / "examples.json").read_text("utf-8"))
SOURCES: dict[str, Any] = YAML(typ="safe").load((DATA / "sources.yaml").read_text("utf-8"))
WAYS = [(kind, way) for kind, ways in choices().items() for way in ways]


def test_every_way_has_an_example_and_a_source() -> None:
    """Nothing is written in a way of which nobody says where it is from."""
    assert {kind: set(ways) for kind, ways in choices().items()} == {
        kind: {str(way) for way in entry["ways"]} for kind, entry in SOURCES.items()
    }


def test_the_examples_are_what_the_facts_make() -> None:
    """The committed examples are what build.py writes."""
    assert BUILD["text"](BUILD["examples"]()) == (DATA / "examples.json").read_text("utf-8")


@pytest.mark.parametrize(("kind", "way"), WAYS)
def test_an_example_becomes_its_row(kind: str, way: str) -> None:
    """The example, among the other resources of its subject, gives the row that every way of its kind gives."""
    example = EXAMPLES[kind][way]
    others = cohort_resources([BUILD["SUBJECT"]], study=BUILD["STUDY"], dialect=BUILD["dialect"](kind, way))
    resources = [example if item["id"] == example["id"] else item for item in others]
    study, _ = load_study(DATA / "study.yaml")
    result = map_resources(support.landed(resources), study, key=None)
    expected = SOURCES[kind]["row"]
    values = dict(expected["values"])
    if kind == "role" or way == "prefix":
        values.pop("TRLNKID", None)
    rows = support.rows(result, expected["dataset"], *values)
    assert tuple(values.values()) in rows
    assert not [item for item in result.findings if item.code == "unknown-code"]
