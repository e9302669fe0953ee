"""A resource is the unit of failure: a bad one is named with its place and reason, and harms no other."""

from __future__ import annotations

import copy
import json
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_adapter.assets import asset
from fhir_adapter.mapping.views import CompiledView, definition, load_view

GOOD = b'{"resourceType":"Patient","id":"good","name":[{"family":"Alder"}]}'
DEEP = (
    b'{"resourceType":"Patient","id":"deep","extension":' + b'[{"extension":' * 40 + b"[]" + b"}]" * 40 + b"}"
)

VIEW = load_view(
    {
        "name": "v",
        "resource": "Patient",
        "select": [
            {
                "column": [
                    {"name": "key", "path": "getResourceKey()"},
                    {"name": "active", "path": "active"},
                    {"name": "born", "path": "birthDate"},
                    {"name": "family", "path": "name.first().family"},
                    {"name": "births", "path": "multipleBirth.ofType(integer)"},
                    {"name": "doctor", "path": "generalPractitioner.first().getReferenceKey()"},
                    {"name": "married", "path": "maritalStatus.coding.where(system = 's').code"},
                    {"name": "grade", "path": "extension('u').value.ofType(decimal)"},
                    {"name": "given", "path": "name.given", "collection": True},
                ]
            }
        ],
    }
)


def patient(**elements: Any) -> bytes:
    return json.dumps({"resourceType": "Patient", "id": "p", **elements}).encode()


@pytest.mark.parametrize(
    ("body", "path", "code"),
    [
        (b"", "$", "json"),
        (b"{", "$", "json"),
        (b"[]", "$", "json"),
        (b"null", "$", "json"),
        (b"[" + GOOD + b"]", "$", "json"),
        (GOOD + GOOD, "$", "json"),
        (GOOD.replace(b"Alder", b"\xff\xfe"), "$", "json"),
        (GOOD.replace(b"Alder", rb"\ud800"), "$", "json"),
        (GOOD.replace(b'"Alder"', b"NaN"), "$", "json"),
        (GOOD.replace(b'"Alder"', b"1" * 5000), "$", "json"),
        (DEEP, "$", "depth"),
        (b'{"resourceType":"Patient","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "$", "depth"),
        (b"{}", "$.resourceType", "type"),
        (b'{"resourceType":["Patient"]}', "$.resourceType", "type"),
        (b'{"resourceType":"Patient"}', "$.id", "no-id"),
        (patient(id=7), "$.id", "no-id"),
        (patient(id="has space"), "$.id", "no-id"),
        (patient(active="true"), "$.active", "shape"),
        (patient(active=1), "$.active", "shape"),
        (patient(birthDate=1970), "$.birthDate", "shape"),
        (patient(birthDate=["1970"]), "$.birthDate", "shape"),
        (patient(birthDate={"year": 1970}), "$.birthDate", "shape"),
        (patient(name={"family": "x"}), "$.name", "shape"),
        (patient(name=[["x"]]), "$.name", "shape"),
        (patient(name=["x"]), "$.name", "shape"),
        (patient(name=[{"family": {}}]), "$.name.family", "shape"),
        (patient(name=[{"family": ["x"]}]), "$.name.family", "shape"),
        (patient(name=[{"given": "x"}]), "$.name.given", "shape"),
        (patient(name=[{"given": ["x", 1]}]), "$.name.given", "shape"),
        (patient(multipleBirthInteger=1.5), "$.multipleBirthInteger", "shape"),
        (patient(multipleBirthInteger=True), "$.multipleBirthInteger", "shape"),
        (patient(multipleBirthInteger=2**63), "$.multipleBirthInteger", "shape"),
        (GOOD[:-1] + b',"multipleBirthInteger":1e999999999}', "$.multipleBirthInteger", "shape"),
        (patient(generalPractitioner=["Practitioner/1"]), "$.generalPractitioner", "shape"),
        (patient(generalPractitioner=[{"reference": 1}]), "$.generalPractitioner.reference", "shape"),
        (patient(maritalStatus={"coding": [{"system": 1}]}), "$.maritalStatus.coding.system", "shape"),
        (
            patient(maritalStatus={"coding": [{"system": "s", "code": "a"}, {"system": "s", "code": "b"}]}),
            "$.maritalStatus.coding.code",
            "several",
        ),
        (patient(extension=[{"valueDecimal": 1}]), "$.extension", "shape"),
        (patient(extension={"url": "u"}), "$.extension", "shape"),
        (patient(extension=[{"url": "u", "valueDecimal": "1"}]), "$.extension.valueDecimal", "shape"),
        (
            patient(extension=[{"url": "u", "valueDecimal": 10**38}]),
            "$.extension.valueDecimal",
            "shape",
        ),
        (
            GOOD[:-1] + b',"extension":[{"url":"u","valueDecimal":1e-39}]}',
            "$.extension.valueDecimal",
            "shape",
        ),
    ],
)
def test_a_bad_resource_fails_alone(body: bytes, path: str, code: str) -> None:
    """The bad one of three is named with its place and kind; the others give what they give without it."""
    result = VIEW.run([GOOD, body, GOOD])

    assert [(failure.index, failure.json_path, failure.code) for failure in result.failures] == [
        (1, path, code)
    ]
    assert result.row_resource == [0, 2]
    assert result.rows() == VIEW.run([GOOD, GOOD]).rows()
    assert result.to_arrow().num_rows == 2


def test_a_reason_quotes_nothing_of_the_resource() -> None:
    """Reasons say what was expected, never what stood there: it may be a name."""
    bodies = [
        patient(name=["Alder"]),
        patient(name="Alder"),
        patient(active="Alder"),
        b'{"Alder',
        patient(id="Alder X"),
    ]

    failures = VIEW.run(bodies).failures
    assert len(failures) == 5
    assert not [failure for failure in failures if "Alder" in failure.reason + failure.json_path]


@pytest.mark.parametrize(
    "body",
    [
        b'{"resourceType":"Observation"}',
        b'{"resourceType":"Unheard"}',
    ],
)
def test_other_types_are_passed_over(body: bytes) -> None:
    """A resource of another type is not a failure, and gives no row."""
    result = VIEW.run([body])

    assert result.rows() == []
    assert result.failures == []


@pytest.mark.parametrize(
    ("body", "family"),
    [
        (
            GOOD.replace(b'"id"', b'"id":"bad id","id"'),
            "Alder",
        ),  # the last of two keys counts, as in JavaScript
        (GOOD.replace(b'"Alder"', b"null"), None),
        (GOOD.replace(b"[{", b"[null,{"), "Alder"),
        (GOOD.replace(b'"name"', b'"_name":[{"id":"x"}],"name"'), "Alder"),
        (GOOD.replace(b'"name"', b'"unheard":[[1]],"name"'), "Alder"),
        (GOOD.replace(b'"name"', b'"photo":{"x":1e400},"name"'), "Alder"),
    ],
)
def test_odd_but_usable(body: bytes, family: str | None) -> None:
    """What the view does not look at, nulls and doubled keys do no harm."""
    result = VIEW.run([body])

    assert result.failures == []
    assert result.columns["family"] == [family]


# Mutated resources through all shipped views.

OBSERVATION: dict[str, Any] = {
    "resourceType": "Observation",
    "id": "o1",
    "meta": {"versionId": "1", "profile": ["http://x"]},
    "extension": [{"url": "http://x", "valueDecimal": 1.5}],
    "status": "final",
    "category": [{"coding": [{"system": "s", "code": "exam"}], "text": "exam"}],
    "code": {"coding": [{"system": "http://loinc.org", "code": "33728-7", "display": "Size"}]},
    "subject": {"reference": "Patient/p1"},
    "focus": [{"reference": "BodyStructure/b1", "identifier": {"system": "s", "value": "T1"}}],
    "encounter": {"reference": "Encounter/e1"},
    "effectiveDateTime": "2020-01-01",
    "issued": "2020-01-01T10:00:00Z",
    "performer": [{"display": "x"}],
    "valueQuantity": {"value": 12.5, "unit": "mm", "system": "http://unitsofmeasure.org", "code": "mm"},
    "dataAbsentReason": {"text": "none"},
    "method": {"text": "CT"},
    "bodySite": {"coding": [{"code": "1"}], "text": "liver"},
    "derivedFrom": [{"reference": "ImagingStudy/i1"}],
    "component": [
        {"code": {"coding": [{"code": "c"}]}, "valueCodeableConcept": {"coding": [{"code": "PRESENT"}]}},
        {"code": {"text": "t"}, "valueString": "x"},
    ],
}
PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p1",
    "extension": [{"url": "http://x", "extension": [{"url": "y", "valueCode": "z"}]}],
    "identifier": [{"system": "s", "value": "1"}],
    "active": True,
    "name": [{"family": "Alder", "given": ["A"]}],
    "gender": "female",
    "birthDate": "1970-01",
    "deceasedDateTime": "2021-02-03",
    "address": [{"country": "CH"}],
    "managingOrganization": {"reference": "Organization/1"},
}
_CONCEPT = {"coding": [{"system": "s", "code": "2", "display": "x"}], "text": "x"}
_GUIDE = "http://hl7.org/fhir/uv/ae-research-backport-ig/StructureDefinition"
EVENT: dict[str, Any] = {
    "resourceType": "AdverseEvent",
    "id": "e1",
    "actuality": "actual",
    "event": _CONCEPT,
    "extension": [
        {
            "url": f"{_GUIDE}/mitigating-action",
            "extension": [
                {"url": "category", "valueCodeableConcept": _CONCEPT},
                {"url": "item", "valueCodeableConcept": _CONCEPT},
            ],
        },
        {"url": f"{_GUIDE}/ae-grade", "valueCodeableConcept": _CONCEPT},
        {
            "url": f"{_GUIDE}/suspect-entity",
            "extension": [{"url": "instance", "valueReference": {"reference": "Medication/m1"}}],
        },
    ],
    "subject": {"reference": "Patient/p1"},
    "date": "2020-01-01",
    "suspectEntity": [{"instance": {"reference": "Medication/m1"}, "causality": [{"assessment": _CONCEPT}]}],
}
_ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from([10**40, 2**63, 1e300, "2020-13-45", "#x", "urn:uuid:1", "Patient/p1", "", "\u0000"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["url", "coding", "code", "value", "reference", "text", "extension", "system"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=5,
)


@cache
def shipped() -> tuple[CompiledView, ...]:
    return tuple(load_view(path) for path in sorted(asset("mappings", "views").glob("*.json")))


@cache
def shipped_as_closures() -> tuple[CompiledView, ...]:
    """The shipped views without generated code and with every element decoded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(definition, "plan", lambda *given: None)
        patch.setattr(definition, "_decoder", lambda touched: definition._DECODER.decode)
        return tuple(load_view(path) for path in sorted(asset("mappings", "views").glob("*.json")))


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of all places in a resource."""
    found: list[tuple[Any, Any]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += [(value, key), *_places(item)]
    return found


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A resource with up to three places dropped, replaced, wrapped, unwrapped or doubled."""
    resource = copy.deepcopy(draw(st.sampled_from([OBSERVATION, PATIENT, EVENT])))
    for _ in range(draw(st.integers(1, 3))):
        places = _places(resource)
        if not places:
            break
        container, key = draw(st.sampled_from(places))
        way = draw(st.sampled_from(["drop", "replace", "wrap", "unwrap", "double"]))
        if way == "drop":
            del container[key]
        elif way == "replace":
            container[key] = draw(_ODD)
        elif way == "wrap":
            container[key] = [container[key]]
        elif way == "unwrap" and isinstance(container[key], list) and container[key]:
            container[key] = container[key][0]
        elif isinstance(container, list):
            container.insert(key, copy.deepcopy(container[key]))
        else:
            container[key] = [container[key], copy.deepcopy(container[key])]
    body = json.dumps(resource).encode()
    if draw(st.integers(0, 9)) == 0:
        place = draw(st.integers(0, len(body)))
        body = body[:place] + draw(st.binary(max_size=3)) + body[place + draw(st.integers(0, 5)) :]
    return body


def _good_are_unharmed(bad: list[bytes]) -> None:
    good = [json.dumps(resource).encode() for resource in (OBSERVATION, PATIENT, EVENT)]
    bodies = [good[0], *bad, *good[1:]]
    for view, closures in zip(shipped(), shipped_as_closures(), strict=True):
        alone = view.run(good)
        result = view.run(bodies)
        assert alone.failures == []
        failed = [failure.index for failure in result.failures]
        assert len(failed) == len(set(failed))
        assert set(failed) <= set(range(1, len(bodies) - 2))
        assert not set(failed) & set(result.row_resource)
        ends = {0, len(bodies) - 2, len(bodies) - 1}
        kept = [row for row, of in zip(result.rows(), result.row_resource, strict=True) if of in ends]
        assert kept == alone.rows()
        assert result.to_arrow().num_rows == len(result)
        # Generated code gives what the closures give; these also read what the view does not look at.
        unread = {
            failure.index for failure in closures.run(bodies).failures if failure.code in {"json", "depth"}
        }
        both = [body for number, body in enumerate(bodies) if number not in unread]
        first, second = view.run(both), closures.run(both)
        assert first.rows() == second.rows()
        assert [one.index for one in first.failures] == [one.index for one in second.failures]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(mutated(), min_size=1, max_size=3))
def test_mutated_resources(bad: list[bytes]) -> None:
    """Whatever is done to a resource, each view gives rows, one failure or nothing, and the others are unharmed."""
    _good_are_unharmed(bad)


@pytest.mark.soak
@settings(max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(mutated(), min_size=1, max_size=3))
def test_mutated_resources_at_length(bad: list[bytes]) -> None:
    """The same with many more examples."""
    _good_are_unharmed(bad)


def test_every_shipped_view_runs_the_quick_way() -> None:
    """No shipped view is left to its closures, let alone to fhirpathpy."""
    assert [view.name for view in shipped() if not view.quick] == []
    assert [note for view in shipped() for note in view.notes] == []
