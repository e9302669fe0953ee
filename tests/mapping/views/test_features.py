"""What a view can say, feature by feature: a small view, small resources, and the rows beside them."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fhir_adapter.assets import asset
from fhir_adapter.errors import StudyFileError
from fhir_adapter.mapping.views import Column, CompiledView, RunResult, load_view

PATIENT = {
    "resourceType": "Patient",
    "id": "p1",
    "active": True,
    "birthDate": "1970-02",
    "name": [{"family": "Alder", "given": ["A", "B"]}, {"family": "Birch"}],
    "contact": [
        {"telecom": [{"system": "phone", "value": "1"}, {"system": "email", "value": "2"}]},
        {"telecom": [{"system": "phone", "value": "3"}]},
    ],
}
OBSERVATION = {
    "resourceType": "Observation",
    "id": "o1",
    "status": "final",
    "code": {"coding": [{"system": "s", "code": "a"}, {"system": "t", "code": "b"}]},
    "component": [
        {"code": {"text": "size"}, "valueQuantity": {"value": 2.5, "unit": "mm"}},
        {"code": {"text": "state"}, "valueCodeableConcept": {"coding": [{"code": "PRESENT"}]}},
        {"code": {"text": "note"}, "valueString": "x"},
    ],
}


def view(select: list[dict[str, Any]], resource: str = "Patient", **more: Any) -> CompiledView:
    return load_view(
        {"resourceType": "ViewDefinition", "name": "v", "resource": resource, "select": select, **more}
    )


def cols(**paths: str) -> list[dict[str, Any]]:
    """Columns by name; a name that ends in an underscore is a collection."""
    return [
        {"name": name.rstrip("_"), "path": path, "collection": name.endswith("_")}
        for name, path in paths.items()
    ]


def run(view: CompiledView, *resources: dict[str, Any] | str) -> RunResult:
    bodies = [item if isinstance(item, str) else json.dumps(item) for item in resources]
    result = view.run([body.encode() for body in bodies])
    assert result.failures == []
    return result


def rows(
    select: list[dict[str, Any]], *resources: dict[str, Any] | str, **more: Any
) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in run(view(select, **more), *resources).rows()]


def test_columns_of_a_resource() -> None:
    """A select without a loop gives one row of each resource of its type; a missing element is None."""
    selected = [{"column": cols(id="id", active="active", gender="gender")}]

    assert rows(selected, PATIENT, OBSERVATION, {"resourceType": "Patient", "id": "p2"}) == [
        ("p1", True, None),
        ("p2", None, None),
    ]


def test_a_column_says_its_type_collection_and_tags() -> None:
    """The type of a column is the declared one, else the one of its path; tags are kept by name."""
    tag = [{"name": "project/variable", "value": "USUBJID"}]
    made = view(
        [
            {
                "column": [
                    {"name": "id", "path": "id", "type": "id", "tag": tag},
                    *cols(given_="name.given", when="birthDate"),
                ]
            }
        ]
    )

    assert made.columns == (
        Column("id", "id", "id", False, {"project/variable": "USUBJID"}),
        Column("given", "name.given", "string", True),
        Column("when", "birthDate", "date", False),
    )
    assert made.compiled
    assert made.notes == ()


def test_a_collection_is_a_list() -> None:
    """A collection has all values in order, and is an empty list where there are none."""
    selected = [{"column": cols(given_="name.given")}]

    assert rows(selected, PATIENT, {"resourceType": "Patient"}) == [(["A", "B"],), ([],)]


def test_nested_selects_are_joined_with_their_row() -> None:
    """The rows of nested selects are the product with the row they stand in."""
    selected = [{"column": cols(id="id"), "select": [{"forEach": "name", "column": cols(family="family")}]}]

    assert rows(selected, PATIENT) == [("p1", "Alder"), ("p1", "Birch")]


def test_two_loops_side_by_side_are_a_product() -> None:
    """Two loops on one level give each pair once."""
    selected = [
        {"forEach": "name", "column": cols(family="family")},
        {"forEach": "contact", "column": cols(phone="telecom.where(system = 'phone').value")},
    ]

    assert rows(selected, PATIENT) == [("Alder", "1"), ("Alder", "3"), ("Birch", "1"), ("Birch", "3")]


def test_for_each_leaves_out_what_has_no_elements() -> None:
    """`forEach` gives no row without elements, `forEachOrNull` one row of nulls."""
    bare = {"resourceType": "Patient", "id": "p2"}
    each = [{"column": cols(id="id")}, {"forEach": "name", "column": cols(family="family")}]
    or_null = [{"column": cols(id="id")}, {"forEachOrNull": "name", "column": cols(family="family")}]

    assert rows(each, bare) == []
    assert rows(or_null, bare) == [("p2", None)]


def test_union_all_appends_branches() -> None:
    """The rows of the branches follow each other, under one set of columns."""
    selected = [
        {"column": cols(id="id")},
        {
            "unionAll": [
                {"forEach": "name", "column": cols(text="family")},
                {"forEach": "contact.telecom", "column": cols(text="value")},
            ]
        },
    ]

    assert [text for _, text in rows(selected, PATIENT)] == ["Alder", "Birch", "1", "2", "3"]


def test_repeat_follows_elements_down() -> None:
    """Repeat takes the elements of its paths at all depths, the parent before its children."""
    form = {
        "resourceType": "QuestionnaireResponse",
        "status": "completed",
        "item": [
            {
                "linkId": "1",
                "item": [{"linkId": "1.1"}, {"linkId": "1.2", "answer": [{"item": [{"linkId": "1.2.1"}]}]}],
            },
            {"linkId": "2"},
        ],
    }
    selected = [{"repeat": ["item", "answer.item"], "column": cols(link="linkId")}]

    found = rows(selected, form, resource="QuestionnaireResponse")
    assert [link for (link,) in found] == ["1", "1.1", "1.2", "1.2.1", "2"]


def test_where_keeps_what_meets_all_conditions() -> None:
    """All conditions have to be true; one without a value is not true."""
    conditions = [{"path": "active"}, {"path": "name.exists(family = 'Birch')"}]
    others = [{**PATIENT, "active": False}, {"resourceType": "Patient", "name": [{"family": "Birch"}]}]

    assert rows([{"column": cols(id="id")}], PATIENT, *others, where=conditions) == [("p1",)]


@pytest.mark.parametrize(
    ("constant", "path", "expected"),
    [
        ({"valueCode": "phone"}, "contact.telecom.where(system = %c).value.first()", "1"),
        ({"valueInteger": 1}, "name[%c].family", "Birch"),
        ({"valueBoolean": True}, "active = %c", True),
        ({"valueDecimal": 0.1}, "%c + 0.2 = 0.3", True),
        ({"valueDate": "1970-02"}, "birthDate = %c", True),
        ({"valueString": "x"}, "%c", "x"),
    ],
)
def test_constants(constant: dict[str, Any], path: str, expected: object) -> None:
    """A constant stands for its value in any path, with its type."""
    found = rows([{"column": cols(c=path)}], PATIENT, constant=[{"name": "c", **constant}])

    assert found == [(expected,)]


def test_row_index_counts_within_its_loop() -> None:
    """%rowIndex counts from 0 in the innermost loop, and is 0 outside of any."""
    selected = [
        {"column": cols(top="%rowIndex")},
        {
            "forEach": "contact",
            "column": cols(outer="%rowIndex"),
            "select": [{"forEach": "telecom", "column": cols(inner="%rowIndex", value="value")}],
        },
    ]

    assert rows(selected, PATIENT) == [(0, 0, 0, "1"), (0, 0, 1, "2"), (0, 1, 0, "3")]


def test_resource_and_reference_keys_join() -> None:
    """`getReferenceKey` gives what getResourceKey of the resource gives, whichever way the reference is written."""
    selected = [{"column": cols(subject="subject.getReferenceKey(Patient)", any="subject.getReferenceKey()")}]
    written = [
        "Patient/p1",
        "https://server.example/fhir/Patient/p1",
        "Patient/p1/_history/3",
        "Group/g1",
        "urn:uuid:00000000-0000-0000-0000-000000000000",
        "#inside",
    ]
    bodies = [{"resourceType": "Observation", "subject": {"reference": text}} for text in written]
    by_identifier = {"resourceType": "Observation", "subject": {"identifier": {"value": "x"}}}

    assert rows(selected, *bodies, by_identifier, resource="Observation") == [
        ("Patient/p1", "Patient/p1"),
        ("Patient/p1", "Patient/p1"),
        ("Patient/p1", "Patient/p1"),
        (None, "Group/g1"),
        (None, None),
        (None, None),
        (None, None),
    ]
    assert rows([{"column": cols(key="getResourceKey()")}], PATIENT) == [("Patient/p1",)]


def test_choices_inside_a_loop() -> None:
    """`value.ofType(…)` inside forEach reads the component's own value, each type its own column."""
    selected = [
        {
            "forEach": "component",
            "column": cols(
                what="code.text",
                size="value.ofType(Quantity).value",
                state_="value.ofType(CodeableConcept).coding.code",
                note="value.ofType(string)",
            ),
        }
    ]

    assert rows(selected, OBSERVATION, resource="Observation") == [
        ("size", Decimal("2.5"), [], None),
        ("state", None, ["PRESENT"], None),
        ("note", None, [], "x"),
    ]


def test_contained_resources_by_type() -> None:
    """`contained.ofType(Medication)` gives those resources alone, and their elements are known."""
    given = {
        "resourceType": "MedicationAdministration",
        "id": "m1",
        "contained": [
            {"resourceType": "Organization", "id": "o"},
            {"resourceType": "Medication", "id": "m", "code": {"text": "Drug"}},
        ],
    }
    selected = [{"forEach": "contained.ofType(Medication)", "column": cols(id="id", drug="code.text")}]

    assert rows(selected, given, resource="MedicationAdministration") == [("m", "Drug")]
    with pytest.raises(StudyFileError, match="Medication has no element cod"):
        view([{"column": cols(x="contained.ofType(Medication).cod.text")}], "MedicationAdministration")


def test_extension_chains() -> None:
    """extension(url) picks by url, also extensions of extensions, and `value` needs its type."""
    extended = {
        **PATIENT,
        "extension": [
            {"url": "http://other", "valueInteger": 9},
            {
                "url": "http://outer",
                "extension": [{"url": "grade", "valueInteger": 3}, {"url": "x", "valueCode": "y"}],
            },
        ],
    }
    path = "extension('http://outer').extension('grade').value.ofType(integer)"

    assert rows([{"column": cols(grade=path)}], extended, PATIENT) == [(3,), (None,)]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("name.given.join('-')", "A-B"),
        ("name.given.join()", "AB"),
        ("name[1].family", "Birch"),
        ("name[7].family", None),
        ("name.first().family", "Alder"),
        ("name.where(family = 'Birch').exists()", True),
        ("name.where(family = 'Cedar').empty()", True),
        ("active.not()", False),
        ("active and gender.exists()", False),
        ("active or gender.exists()", True),
        ("1 + 2 * 3", 7),
        ("-(2 - 5)", 3),
        ("1 / 0", None),
        ("birthDate.lowBoundary()", "1970-02-01"),
        ("birthDate.highBoundary()", "1970-02-28"),
        ("birthDate < @1980-01-01", True),
        ("'it\\'s'", "it's"),
        ("Patient.id", "p1"),
        ("$this.id", "p1"),
    ],
)
def test_functions_and_operators(path: str, expected: object) -> None:
    """Functions and operators of the subset, all compiled."""
    made = view([{"column": cols(x=path)}])

    assert made.compiled
    assert [tuple(row.values()) for row in run(made, PATIENT).rows()] == [(expected,)]


@pytest.mark.parametrize(
    ("written", "low", "high"),
    [
        ("1.50", "1.495", "1.505"),
        ("1.5", "1.45", "1.55"),
        ("2", "1.5", "2.5"),
        ("0.1234567890123456789012345678901234", None, None),
    ],
)
def test_boundaries_of_a_decimal_follow_its_digits(written: str, low: str | None, high: str | None) -> None:
    """1.50 and 1.5 have different boundaries; no digit is lost on the way, however many there are."""
    body = f'{{"resourceType":"Observation","valueQuantity":{{"value":{written}}}}}'
    value = "value.ofType(Quantity).value"
    found = rows(
        [{"column": cols(low=f"{value}.lowBoundary()", high=f"{value}.highBoundary()")}],
        body,
        resource="Observation",
    )[0]

    assert found == (
        Decimal(low or "0.12345678901234567890123456789012335"),
        Decimal(high or "0.12345678901234567890123456789012345"),
    )


def test_decimals_keep_their_precision() -> None:
    """1.50 stays 1.50, in the rows and in Arrow; the scale of a column is that of its finest value."""
    selected = [{"column": cols(value="value.ofType(Quantity).value")}]
    bodies = [
        f'{{"resourceType":"Observation","valueQuantity":{{"value":{text}}}}}'
        for text in ("1.50", "12", "0.1", "1e2")
    ]
    result = run(view(selected, "Observation"), *bodies)

    assert [str(value) for value in result.columns["value"]] == ["1.50", "12", "0.1", "1E+2"]
    batch = result.to_arrow()
    assert batch.schema.field("value").type == pa.decimal128(5, 2)
    assert [str(value) for value in batch.column("value").to_pylist()] == ["1.50", "12.00", "0.10", "100.00"]


def test_dates_stay_as_written() -> None:
    """Dates are text, with the precision and the offset that was written."""
    written = ["2020", "2020-03", "2020-03-01", "2020-03-01T10:00:00+08:00", "2020-03-01T10:00:00.000Z"]
    bodies = [{"resourceType": "Observation", "effectiveDateTime": text} for text in written]
    selected = [{"column": cols(when="effective.ofType(dateTime)")}]

    result = run(view(selected, "Observation"), *bodies)
    assert result.columns["when"] == written
    assert result.to_arrow().column("when").to_pylist() == written


def test_arrow_types() -> None:
    """Arrow's types follow FHIR's; a complex value is JSON text, with its numbers as written."""
    selected = [
        {
            "column": [
                *cols(
                    active="active",
                    family_="name.family",
                    births="multipleBirth.ofType(integer)",
                    born="birthDate",
                ),
                *cols(first="name.first()", x="extension.value.ofType(Quantity)"),
            ]
        }
    ]
    body = json.dumps({**PATIENT, "multipleBirthInteger": 2})[:-1]
    body += ', "extension": [{"url": "u", "valueQuantity": {"value": 1.50}}]}'

    batch = run(view(selected), body).to_arrow()
    assert dict(zip(batch.schema.names, batch.schema.types, strict=True)) == {
        "active": pa.bool_(),
        "family": pa.list_(pa.string()),
        "births": pa.int64(),
        "born": pa.string(),
        "first": pa.string(),
        "x": pa.string(),
    }
    assert batch.to_pylist()[0]["first"] == '{"family":"Alder","given":["A","B"]}'
    assert batch.to_pylist()[0]["x"] == '{"value":1.50}'


def test_arrow_of_no_rows() -> None:
    """A run without rows gives an empty batch with all columns."""
    batch = run(view([{"column": cols(a="active", g_="name.given")}]), OBSERVATION).to_arrow()

    assert batch.num_rows == 0
    assert batch.schema.names == ["a", "g"]


def test_row_resource_says_where_a_row_comes_from() -> None:
    """Each row knows the resource that it was made of, by its place in the batch."""
    result = run(view([{"forEach": "name", "column": cols(f="family")}]), OBSERVATION, PATIENT, PATIENT)

    assert result.row_resource == [1, 1, 2, 2]
    assert len(result) == 4


def test_both_releases() -> None:
    """An element of R5 alone is known in R5, and a mistake in R4."""
    definition = {"resource": "Observation", "select": [{"column": cols(x="instantiates.ofType(canonical)")}]}

    assert load_view(definition, release="R5").compiled
    with pytest.raises(StudyFileError, match="Observation has no element instantiates"):
        load_view(definition)


@pytest.mark.parametrize(
    "path", sorted(asset("mappings", "views").glob("*.json")), ids=lambda path: path.stem
)
def test_every_shipped_view_is_compiled(path: Path) -> None:
    """Every view that ships loads, bears the name of its file, and needs no other engine."""
    made = load_view(path)

    assert made.name == path.stem
    assert made.columns
    assert made.compiled
    assert made.notes == ()


@pytest.mark.parametrize(
    ("path", "written", "expected"),
    [
        # FHIRPath 2.0, 'Equals' and 'Comparison': component by component; where one ends, there is no answer.
        ("birthDate < @1970-06-01", "1970", None),
        ("birthDate < @1970-06-01", "1969", True),
        ("birthDate < @1970-06-01", "1970-05", True),
        ("birthDate >= @1970-06", "1970-06", True),
        ("birthDate = @1970", "1970-01-01", None),
        ("birthDate != @1970", "1970-01-01", None),
        ("(birthDate = @1970).not()", "1970-01-01", None),
        ("birthDate = @1970", "1971-01-01", False),
        ("deceased.ofType(dateTime) = @2024-01-01T01:00:00+01:00", "2024-01-01T00:00:00Z", True),
        ("deceased.ofType(dateTime) = @2024-01-01T01:00:00.0+01:00", "2024-01-01T00:00:00.000Z", True),
        ("deceased.ofType(dateTime) < @2024-01-01T00:30:00Z", "2024-01-01T01:00:00+01:00", True),
        ("deceased.ofType(dateTime) < @2024-01-01T00:30:00Z", "2024-01-01T00:00:00", None),
        ("deceased.ofType(dateTime) < @2024-01-09T00:30:00Z", "2024-01-01T00:00:00", True),
        ("deceased.ofType(dateTime) = @2024-01-01", "2024-01-01T10:00:00Z", None),
        ("deceased.ofType(dateTime) > @2023-12-31", "2024-01-01T10:00:00Z", True),
    ],
)
def test_dates_compare_by_their_precision(path: str, written: str, expected: bool | None) -> None:
    """Partial dates are compared as far as they go, moments as moments; what cannot be told is nothing."""
    key = "birthDate" if "birthDate" in path else "deceasedDateTime"
    assert rows([{"column": cols(a=path)}], {"resourceType": "Patient", key: written}) == [(expected,)]


def test_a_text_that_is_no_date_fails_where_dates_are_compared() -> None:
    """A comparison with what is no date is a failure of the resource, at the element."""
    made = view([{"column": cols(a="birthDate < @1970")}])
    result = made.run([b'{"resourceType":"Patient","birthDate":"long ago"}'])

    assert [(one.json_path, one.reason) for one in result.failures] == [
        ("$.birthDate", "a date or time was expected here")
    ]
