"""References of every form, and merged patients."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from mapping_support import Raw, landed, mapped, rows, six, six_study

from fhir_adapter.arrivals import subject_key
from fhir_adapter.datasets import conform
from fhir_adapter.engines.partition import DOMAINS, SHARED_TYPES, Plan, map_partition, split, view_names
from fhir_adapter.mapping.candidates import candidate_subjects, study_keys
from fhir_adapter.mapping.references import (
    Identifier,
    Link,
    Patient,
    Reference,
    contained,
    key_of,
    people,
    survivors,
)
from fhir_adapter.mapping.stage import map_resources
from fhir_adapter.mapping.which_count import Verdict, decode_head


@pytest.mark.parametrize(
    ("reference", "key"),
    [
        ("Patient/x", "Patient/x"),
        ("Patient/x/_history/3", "Patient/x"),
        ("https://server/fhir/Patient/x", "Patient/x"),
        ("https://server/fhir/Patient/x/_history/3", "Patient/x"),
        ("urn:uuid:5f2c1a40-0000-4000-8000-000000000001", "/5f2c1a40-0000-4000-8000-000000000001"),
        ("#x", None),
        ("Patient?identifier=x", None),
        ("", None),
        (None, None),
    ],
)
def test_key(reference: str | None, key: str | None):
    """Relative, absolute, versioned and urn references become one key; others have none."""
    assert key_of(reference) == key


def test_contained():
    """The local id of a contained resource."""
    assert (contained("#m"), contained("Medication/m"), contained("#"), contained(None)) == (
        "m",
        None,
        None,
        None,
    )


def patient(id_: str, *identifiers: str, **links: str) -> Patient:
    """A Patient with links, and identifiers of one system."""
    return Patient(
        id_,
        [Identifier("urn:mrn", value) for value in identifiers],
        [
            msgspec.convert(
                {"other": {"reference": f"Patient/{other}"}, "type": kind.replace("_", "-")}, Link
            )
            for kind, other in links.items()
        ],
    )


def test_merged_patients_fold_into_the_last_survivor():
    """A was replaced by b, b by c; c says so of d; a mere `seealso` changes nothing."""
    patients = [
        patient("a", replaced_by="b"),
        patient("b", replaced_by="c"),
        patient("c", replaces="d"),
        patient("e", seealso="a"),
    ]
    assert survivors(patients) == {
        "Patient/a": "Patient/c",
        "Patient/b": "Patient/c",
        "Patient/d": "Patient/c",
    }


def test_patients_that_replace_each_other():
    """A circle is one person under the first id; none of its records survives, nor that of one merged into it."""
    found = people(
        [
            patient("c", replaced_by="b"),
            patient("b", replaced_by="c"),
            patient("a", replaced_by="c"),
            patient("self", replaced_by="self"),
            patient("x", replaced_by="y"),
            patient("y"),
        ]
    )
    assert {"Patient/a", "Patient/b", "Patient/c"} == {
        key for key, one in found.survivors.items() if one == "Patient/b"
    }
    circles = {key for key in found.survivors if found.in_a_circle(key)}
    assert {"Patient/a", "Patient/b", "Patient/c", "Patient/self"} == circles


@pytest.mark.parametrize(
    ("reference", "key"),
    [
        ({"reference": "Patient/old"}, "Patient/new"),
        ({"reference": "Patient/old/_history/4"}, "Patient/new"),
        ({"reference": "https://server/fhir/Patient/old"}, "Patient/new"),
        ({"reference": "https://server/fhir/Patient/old/_history/4"}, "Patient/new"),
        ({"reference": "urn:uuid:old"}, "Patient/new"),
        ({"identifier": {"system": "urn:mrn", "value": "1"}}, "Patient/new"),
        ({"identifier": {"system": "urn:mrn", "value": "2"}}, None),  # two people carry it
        ({"identifier": {"system": "urn:other", "value": "1"}}, None),
        ({"reference": "#x"}, None),
        ({"reference": "Group/old"}, None),
        ({"reference": "urn:uuid:nobody"}, None),
        ({"display": "the patient"}, None),
    ],
)
def test_every_form_of_reference_finds_the_surviving_patient(reference: dict[str, Any], key: str | None):
    """Literal, urn and logical references of a merged patient give the one key."""
    everybody = people(
        [patient("old", "1", replaced_by="new"), patient("new", "1", "2"), patient("other", "2")]
    )
    assert key == everybody.find(msgspec.convert(reference, Reference))


FORMS: list[dict[str, Any]] = [
    {"reference": "Patient/six-pr"},
    {"reference": "Patient/six-pr/_history/7"},
    {"reference": "https://server.example/fhir/Patient/six-pr"},
    {"reference": "urn:uuid:six-pr"},
    {"type": "Patient", "identifier": {"system": "urn:mrn", "value": "pr"}},
    {"reference": "Patient/six-pr-old"},
    {"reference": "Patient/six-pr-older"},
    {"type": "Patient", "identifier": {"system": "urn:mrn", "value": "older"}},
]


def with_forms() -> list[dict[str, Any]]:
    """The six patients; one of them has two older records, and is referred to in every form in turn."""
    resources = six()
    number = 0
    for item in resources:
        if item["id"] == "six-pr":
            item["identifier"] = [*item.get("identifier", []), {"system": "urn:mrn", "value": "pr"}]
        for name in ("subject", "patient"):
            if item.get(name) == {"reference": "Patient/six-pr"}:
                item[name] = FORMS[number % len(FORMS)]
                number += 1
    old = {"other": {"reference": "Patient/six-pr"}, "type": "replaced-by"}
    older = {"other": {"reference": "Patient/six-pr-old"}, "type": "replaced-by"}
    resources += [
        {"resourceType": "Patient", "id": "six-pr-old", "link": [old]},
        {
            "resourceType": "Patient",
            "id": "six-pr-older",
            "link": [older],
            "identifier": [{"system": "urn:mrn", "value": "older"}],
        },
    ]
    assert number > len(FORMS)
    return resources


def without_own_subject(resources: list[dict[str, Any]]) -> list[Raw]:
    """As they land: only a literal reference is known to the landing."""
    return [
        Raw(raw.type, raw.id, raw.version, raw.sequence, subject_key(raw.subject), raw.body)
        for raw in landed(resources)
    ]


@pytest.mark.parametrize("number", [1, 2, 5])
def test_a_patient_of_many_records_is_one_subject_in_one_partition(number: int):
    """Every form of reference, and merges over two steps: the datasets are those of plain references."""
    resources = without_own_subject(with_forms())
    study = six_study()
    everybody = people(
        msgspec.json.decode(raw.body, type=Patient) for raw in resources if raw.type == "Patient"
    )
    plan = Plan(
        study=study,
        views=view_names(study),
        candidates=frozenset(candidate_subjects(resources, study, everybody)),
        people=everybody,
        study_keys=study_keys(resources, study),
    )
    shared = [raw for raw in resources if raw.type in SHARED_TYPES]
    own = [raw for raw in resources if raw.type not in SHARED_TYPES]
    parts = [map_partition(part, shared, plan) for part in split(own, plan, number)]
    expected = mapped()
    for name in DOMAINS:
        found = conform(name, [row for part in parts for row in part.rows.get(name, [])])
        assert found.equals(expected.datasets[name]), name
    reasons = [item.reason for part in parts for item in part.dispositions if item.type == "Patient"]
    assert 2 == reasons.count("merged")
    assert expected.datasets["DM"].equals(map_resources(resources, study, key=None).datasets["DM"])


def test_a_circle_of_merges_does_not_stop_the_others():
    """Its records are quarantined with path and sentence; what is about them is one subject; the rest is as ever."""
    resources = six()
    for item in resources:
        if item["id"] == "six-pr":
            item["link"] = [{"other": {"reference": "Patient/six-pr-twin"}, "type": "replaced-by"}]
    link = [{"other": {"reference": "Patient/six-pr"}, "type": "replaced-by"}]
    resources.append({"resourceType": "Patient", "id": "six-pr-twin", "link": link})
    result = map_resources(landed(resources), six_study(), key=None)
    quarantined = [item for item in result.dispositions if item.outcome == "quarantined"]
    assert [("six-pr", "$.link"), ("six-pr-twin", "$.link")] == sorted(
        (item.id, item.path) for item in quarantined
    )
    sentences = {item.text for item in result.findings if item.code == "merged-in-a-circle"}
    assert ["in a circle" in text for text in sentences] == [True]
    assert [(None,)] == rows(result, "DM", "SEX", USUBJID="SIX-002")
    whole = mapped()
    for name in ("TR", "AE", "EX"):
        assert result.datasets[name].equals(whole.datasets[name]), name


def test_references_that_lead_nowhere_are_counted():
    """By resource and element, with the form of the reference, and without any identifier."""
    resources = six()
    for item in resources:
        if item["id"] == "six-pr-week9-t01":
            item["focus"] = [{"reference": "BodyStructure/lost"}]
        if item["resourceType"] == "Observation" and item["id"].startswith("six-cr-week9"):
            item["encounter"] = {"reference": "urn:uuid:00000000-0000-4000-8000-000000000000"}
        if item["id"] in {"six-sd-week9-t01", "six-sd-week18-t01"}:
            item["subject"] = {"identifier": {"system": "urn:mrn", "value": "nobody"}}
    result = map_resources(without_own_subject(resources), six_study(), key=None)
    counted = {
        (detail["resource"], detail["element"], detail["form"]): detail["count"]
        for item in result.findings
        if item.code == "unresolved-reference"
        for detail in [json.loads(item.detail)]
    }
    assert 1 == counted["Observation", "focus", "literal"]
    assert 2 == counted["Observation", "subject", "logical"]
    assert counted["Observation", "encounter", "urn"] >= 1
    told = " ".join(
        item.detail + item.text for item in result.findings if item.code == "unresolved-reference"
    )
    assert "lost" not in told
    assert "nobody" not in told
    assert "0000" not in told


def test_a_resource_of_the_wrong_shape():
    """The JSON path of what is wrong."""
    assert decode_head(b'{"resourceType": "Patient", "link": [{"other": 3}]}') == Verdict(
        "quarantined", "shape", "$.link[0].other"
    )
    assert decode_head(b"{") == Verdict("quarantined", "not-json", "$")
