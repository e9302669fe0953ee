"""The contract of the engines: partitions of subjects need nothing of each other."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from mapping_support import Raw, landed, mapped, six, six_study

from fhir_adapter.datasets import conform
from fhir_adapter.engines.partition import DOMAINS, SHARED_TYPES, Plan, map_partition, view_names
from fhir_adapter.errors import StudyFileError
from fhir_adapter.mapping.candidates import candidate_subjects, study_keys
from fhir_adapter.mapping.stage import map_resources


def test_partitions_together_are_the_whole():
    """Three partitions of two subjects give the rows, numbers and dispositions of one partition of six."""
    resources = landed(six())
    study = six_study()
    plan = Plan(
        study=study,
        views=view_names(study),
        candidates=frozenset(candidate_subjects(resources, study)),
        study_keys=study_keys(resources, study),
    )
    shared = [raw for raw in resources if raw.type in SHARED_TYPES]
    parts = []
    for names in (("cr", "pr"), ("sd", "pd"), ("ne", "ex")):
        own = [raw for raw in resources if raw.subject in {f"Patient/six-{name}" for name in names}]
        parts.append(map_partition(own, shared, plan))
    whole = mapped()
    for name in DOMAINS:
        frame = conform(name, [row for part in parts for row in part.rows.get(name, [])])
        assert frame.equals(whole.datasets[name]), name
    assert sum(len(part.dispositions) for part in parts) + len(shared) == len(whole.dispositions)


def test_two_processes_give_what_one_gives():
    """Datasets, dispositions and findings do not depend on how many processes share the work."""
    one, two = (map_resources(landed(six()), six_study(), key=None, processes=number) for number in (1, 2))
    assert one.dispositions == two.dispositions
    assert one.findings == two.findings
    assert one.subjects.equals(two.subjects)
    for name in DOMAINS:
        assert one.datasets[name].equals(two.datasets[name]), name


def test_a_view_that_does_not_ship():
    """A study that names it is refused, and told what there is."""
    with pytest.raises(StudyFileError, match="no view nonsense"):
        view_names(six_study(mapping={"views": ["dm_patient", "nonsense"]}))


def test_fewer_views_leave_resources_unread():
    """A type that no view of the study reads is not needed for that reason."""
    result = mapped(patients=("six-ex",), mapping={"views": ["dm_patient", "dm_research_subject"]})
    assert {item.reason for item in result.dispositions if item.type == "Observation"} == {"no-view"}
    assert len(result.datasets["DM"]) == 1


JUNK: list[Any] = [
    None,
    True,
    0,
    -1,
    1e308,
    "",
    "x",
    "2021-13-45",
    [],
    {},
    [None],
    {"a": 1},
    [[]],
    "Patient/z",
    "#c",
]


def _places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from _places(value, (*path, key))


@pytest.mark.parametrize("seed", range(4))
def test_mis_shaped_resources_harm_no_other(seed: int):
    """Half of one patient's resources are spoilt: each has a disposition, the others keep theirs."""
    choose = random.Random(seed)
    spoilt: list[Raw] = []
    for raw in landed(six()):
        if raw.subject != "Patient/six-pr" or raw.type == "ResearchSubject" or choose.random() < 0.5:
            spoilt.append(raw)
            continue
        resource = json.loads(raw.body)
        path = choose.choice([item for item in _places(resource) if item[0] not in {"resourceType", "id"}])
        node = resource
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = copy.deepcopy(choose.choice(JUNK))
        spoilt.append(
            Raw(raw.type, raw.id, raw.version, raw.sequence, raw.subject, json.dumps(resource).encode())
        )
    result = map_resources(spoilt, six_study(), key=None)
    whole = mapped()
    assert len(result.dispositions) == len(spoilt)
    for before, after in zip(whole.dispositions, result.dispositions, strict=True):
        if not before.id.startswith("six-pr"):
            assert before == after
    for name, frame in whole.datasets.items():
        others = frame[frame["USUBJID"] != "SIX-002"].reset_index(drop=True)
        found = result.datasets[name]
        assert others.equals(found[found["USUBJID"] != "SIX-002"].reset_index(drop=True)), name
