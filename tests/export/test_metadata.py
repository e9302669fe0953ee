"""The metadata of the datasets hold together: what a new variable needs is said by the test that misses it."""

from __future__ import annotations

import pytest
from ruamel.yaml import YAML

from fhir_adapter.assets import asset
from fhir_adapter.datasets import Dataset, metadata
from fhir_adapter.export.definition import definition, shipped_codelists

DATASETS = list(metadata().values())
#: One name of nine characters, of a dataset that is ours alone; a transport file has it as PARENTSE.
LONG_NAMES = {"LINEAGE.PARENTSEQ"}


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda one: one.name)
def test_labels_types_and_lengths(dataset: Dataset) -> None:
    """Names and labels fit SAS transport files, no label is empty, keys are variables, lengths make sense."""
    names = [one.name for one in dataset.variables]
    wrong = [
        f"{dataset.name}.{one.name}: {what}"
        for one in dataset.variables
        for what, holds in (
            (
                "a name has at most 8 characters",
                len(one.name) <= 8 or f"{dataset.name}.{one.name}" in LONG_NAMES,
            ),
            ("a label has 1 to 40 characters; more belongs into definitions.yaml", 0 < len(one.label) <= 40),
            ("a label is ASCII", one.label.isascii()),
            ("a number has length 8", one.type not in {"integer", "float"} or one.length == 8),
            ("a date has length 10", one.type != "date" or one.length == 10),
            ("a flag has length 1", one.type != "flag" or one.length == 1),
            ("a datetime has length 25", one.type != "datetime" or one.length == 25),
        )
        if not holds
    ]
    assert wrong == [], "correct mappings/datasets.yaml"
    assert len(names) == len(set(names))
    assert set(dataset.keys) <= set(names)
    assert len(dataset.label) <= 40


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda one: one.name)
def test_every_variable_is_defined(dataset: Dataset) -> None:
    """Each variable has an origin of Define-XML, and but for collected ones says how it is made."""
    found = {one.name: definition(dataset, one.name) for one in dataset.variables}
    lacking = [
        f"{dataset.name}.{name}: {{origin: Derived, from: how it is made and by which rule}}"
        for name, one in found.items()
        if one.origin not in {"Collected", "Derived", "Assigned", "Predecessor"} or not one.source
    ]
    assert lacking == [], "add these lines to `variables` of mappings/definitions.yaml"
    assert {one.codes for one in found.values()} - {"", *shipped_codelists()} == set()


def test_no_definition_is_left_over() -> None:
    """Each entry of definitions.yaml is of a variable that there is, and each codelist is used."""
    tree = YAML(typ="safe").load(asset("mappings", "definitions.yaml").read_text(encoding="utf-8"))
    known = {one.name for dataset in DATASETS for one in dataset.variables}
    known |= {f"{dataset.name}.{one.name}" for dataset in DATASETS for one in dataset.variables}
    known |= {
        f"--{one.name[2:]}"
        for dataset in DATASETS
        for one in dataset.variables
        if dataset.model == "SDTM" and one.name.startswith(dataset.name)
    }
    assert set(tree["variables"]) - known == set()
    used = {entry["codes"] for entry in tree["variables"].values() if "codes" in entry} | {"Y"}
    assert set(tree["codelists"]) - used == set()


def test_codelists_of_concept_maps_hold_their_targets() -> None:
    """The terms are the target codes of the map; those that are listed by hand have a meaning each."""
    lists = shipped_codelists()
    assert {"ABSENT", "PRESENT", "UNEQUIVOCAL", "EQUIVOCAL"} <= set(lists["STATE"].terms)
    assert [one.id for one in lists.values() if not one.terms] == []
    assert [one.id for one in lists.values() if not one.concepts and not all(one.terms.values())] == []
