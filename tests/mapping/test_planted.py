"""One planted resource per disposition and reason: the accounting names each."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mapping_support import PLANTED, mapped, six

from fhir_adapter.accounting import NOT_NEEDED
from fhir_adapter.mapping.stage import Mapped

CASES = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(PLANTED.glob("*.json"))}


@pytest.fixture(scope="module")
def result() -> Mapped:
    """The six patients and all planted resources, mapped once."""
    return mapped(*(case["resource"] for case in CASES.values()))


@pytest.mark.parametrize("name", CASES)
def test_a_planted_resource_gets_its_disposition(result: Mapped, name: str):
    """Outcome, reason and JSON path are what the file says; the one used reaches its dataset."""
    case: dict[str, Any] = CASES[name]
    kind, id_ = case["resource"]["resourceType"], case["resource"]["id"]
    found = [item for item in result.dispositions if (item.type, item.id) == (kind, id_)]
    assert len(found) == 1
    assert found[0].outcome == case["outcome"], case["why"]
    if case["reason"] == "*":
        assert found[0].reason
        assert found[0].path.startswith("$.")
    else:
        assert (found[0].reason, found[0].path) == (case["reason"], case["path"])
    reached = [
        dataset
        for dataset, frame in result.datasets.items()
        if frame["SRCREF"].str.contains(f"{kind}/{id_}/_history/1", regex=False).any()
    ]
    assert reached == ([case["dataset"]] if "dataset" in case else [])


def test_a_quarantined_resource_is_a_finding(result: Mapped):
    """Whatever is quarantined can be looked up among the findings, by type and id."""
    found = {item.resource for item in result.findings}
    for case in CASES.values():
        if case["outcome"] == "quarantined":
            assert f"{case['resource']['resourceType']}/{case['resource']['id']}" in found


def test_each_reason_of_the_mapping_is_planted():
    """Every reason for not needing a resource is planted, but those the landing and the cohort decide."""
    planted = {case["reason"] for case in CASES.values() if case["outcome"] == "not-needed"}
    assert planted == set(NOT_NEEDED) - {"superseded", "deleted", "consent"}


def test_the_others_are_unharmed(result: Mapped):
    """The six patients' own resources fare as they do without the planted ones."""
    own = {(item["resourceType"], item["id"]) for item in six()}

    def fate(found: Mapped) -> list[tuple[str, str, str, str]]:
        return [(d.type, d.id, d.outcome, d.reason) for d in found.dispositions if (d.type, d.id) in own]

    assert fate(result) == fate(mapped())
    assert len(result.dispositions) == len(own) + len(CASES)
