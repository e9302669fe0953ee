"""Mistakes in views are errors when the view is loaded, and the message names the place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fhir_adapter.errors import StudyFileError
from fhir_adapter.mapping.views import load_view

PATIENT = json.dumps(
    {"resourceType": "Patient", "id": "p", "active": True, "name": [{"family": "Alder"}, {"family": "Birch"}]}
).encode()
NUMBER = b'{"resourceType":"Observation","valueQuantity":{"value":1.5}}'


def column(path: Any, **more: Any) -> dict[str, Any]:
    return {"column": [{"name": "a", "path": path, **more}]}


def of(*selects: Any, resource: str = "Observation", **more: Any) -> dict[str, Any]:
    return {"name": "v", "resource": resource, "select": list(selects), **more}


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        (of(column("statu")), "select[0].column[0].path: Observation has no element statu"),
        (of(column("code.coding.cod")), "select[0].column[0].path: Coding has no element cod"),
        (of(column("component.valu")), "select[0].column[0].path: Observation.component has no element valu"),
        (of(column("status.x")), "select[0].column[0].path: code has no element x"),
        (
            of(column("code.text"), {"forEach": "component", **column("cod")}),
            "select[1].column[0].path: Observation.component has no element cod",
        ),
        (
            of({"forEach": "komponent", **column("id")}),
            "select[0].forEach: Observation has no element komponent",
        ),
        (
            of({"select": [{"select": [column("x")]}]}),
            "select[0].select[0].select[0].column[0].path: Observation has no element x",
        ),
        (of(column("valueQuantity.value")), "valueQuantity is not FHIRPath; write value.ofType(Quantity)"),
        (of(column("value.ofType(Money)")), "Observation.value[x] cannot be a Money"),
        (of(column("code.ofType(Quantity)")), "CodeableConcept is never a Quantity"),
        (of(column("category.where(coding).text")), "where() needs a condition"),
        (of(column("component.where(x = 1).id")), "Observation.component has no element x"),
        (of(column("id", type="integer")), "select[0].column[0].type: the path gives string, not integer"),
        (
            of(column("code", type="string")),
            "select[0].column[0].type: the path gives CodeableConcept, not string",
        ),
        (of(column("id", type="strong")), "select[0].column[0].type: there is no type strong"),
        (of(column("id", collection="yes")), "select[0].column[0].collection: true or false is expected"),
        (of(column("id", colection=True)), "select[0].column[0]: there is no key colection"),
        (of(column("id", tag=[{"name": "x"}])), "select[0].column[0].tag[0]: a tag has a name and a value"),
        (of({"column": [{"name": "a-b", "path": "id"}]}), "select[0].column[0].name: a name has letters"),
        (of({"column": [{"path": "id"}]}), "select[0].column[0]: a column has a name and a path"),
        (of({"column": [{"name": "a"}]}), "select[0].column[0].path: a path is missing"),
        (of({"column": {"name": "a", "path": "id"}}), "select[0].column: a list is expected"),
        (of(column("id"), column("status")), "select: two columns have the name a"),
        (of(column("%nowhere")), "select[0].column[0].path: there is no constant %nowhere"),
        (of(column("id = 'a")), "select[0].column[0].path: not FHIRPath at character 6"),
        (of(column("id..x")), "select[0].column[0].path: a name is missing before ."),
        (of(column("id =")), "select[0].column[0].path: an expression is missing at the end"),
        (of(column("id)")), "select[0].column[0].path: unexpected )"),
        (of(column("category[0")), "select[0].column[0].path: ] is missing at the end"),
        (of(column("((((" * 5000)), "select[0].column[0].path: the expression is nested too deeply"),
        (of(column("id.frobnicate()")), "select[0].column[0].path: there is no function frobnicate()"),
        (of(column("id.frobnicate() | id")), "there is no function frobnicate()"),
        (of(column("category.select(txt)")), "CodeableConcept has no element txt"),
        (of(column("category.first(2)")), "first() does not take 1 arguments"),
        (of(column("id = 3")), "string and integer cannot be joined by ="),
        (of(column("id.lowBoundary()")), "string has no boundaries"),
        (of(column("-id")), "string has no negative"),
        (of(column("code.getReferenceKey()")), "CodeableConcept is not a Reference"),
        (of(column("subject.getReferenceKey(Patien)")), "there is no resource type Patien"),
        (of(column("code.getResourceKey()")), "CodeableConcept is not a resource"),
        (of(column("extension(3)")), "extension() takes a url"),
        (of(column("id"), resource="Observatoin"), "resource: there is no resource type Observatoin in R4"),
        (of(column("id"), resource="HumanName"), "resource: there is no resource type HumanName in R4"),
        ({"name": "v", "select": [column("id")]}, "resource: the type of resource is missing"),
        (of(), "select: a view selects something"),
        (of({}), "select: a view has a column"),
        (of({"foreach": "component", **column("id")}), "select[0]: there is no key foreach"),
        (
            of({"forEach": "component", "forEachOrNull": "category", **column("id")}),
            "select[0]: forEach and forEachOrNull exclude each other",
        ),
        (of({"repeat": "component", **column("id")}), "select[0].repeat: a list is expected"),
        (
            of({"repeat": ["komponent"], **column("id")}),
            "select[0].repeat[0]: Observation has no element komponent",
        ),
        (
            of({"unionAll": [column("id"), {"column": [{"name": "b", "path": "id"}]}]}),
            "select[0].unionAll[1]: its columns are not those of the first branch",
        ),
        (
            of({"unionAll": [column("id"), column("component.exists()")]}),
            "select[0].unionAll[1]: its columns are not those of the first branch",
        ),
        (
            of({"unionAll": [column("id"), column("id", collection=True)]}),
            "select[0].unionAll[1]: its columns are not those of the first branch",
        ),
        (of(column("id"), where=[{"path": "status"}]), "where[0].path: a condition is a boolean, not code"),
        (
            of(column("id"), where=[{"path": "stat = 'final'"}]),
            "where[0].path: Observation has no element stat",
        ),
        (of(column("id"), where=["status"]), "where[0]: a condition has a path"),
        (of(column("id"), constant=[{"name": "c"}]), "constant[0]: a constant has exactly one value"),
        (of(column("id"), constant=[{"valueCode": "c"}]), "constant[0]: a constant has a name"),
        (
            of(column("id"), constant=[{"name": "c", "valueInteger": "3"}]),
            "constant[0].valueInteger: this is not a integer",
        ),
        (
            of(column("id"), constant=[{"name": "c", "valueCode": "3"}, {"name": "c", "valueCode": "4"}]),
            "constant[1].name: c is taken",
        ),
        (
            of(column("id"), constant=[{"name": "rowIndex", "valueInteger": 3}]),
            "constant[0].name: rowIndex is taken",
        ),
    ],
)
def test_a_mistake_names_its_place(definition: dict[str, Any], message: str) -> None:
    """A view with a mistake is refused, with the view's name, the place and what is wrong."""
    with pytest.raises(StudyFileError) as caught:
        load_view(definition)

    assert str(caught.value).startswith("view v: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '"view"', "[" * 100_000, "\ud800"])
def test_a_file_that_is_no_view_is_named(tmp_path: Path, text: str) -> None:
    """A file that is not JSON, or not an object, is refused by its name; so is one that is not there."""
    file = tmp_path / "tumour.json"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))

    with pytest.raises(StudyFileError, match=r"view tumour\.json: "):
        load_view(file)
    with pytest.raises(StudyFileError, match=r"view missing\.json: "):
        load_view(tmp_path / "missing.json")


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("name.select(family)", PATIENT, ["Alder", "Birch"]),
        ("iif(active, 'yes', 'no')", PATIENT, ["yes"]),
        ("name.first().family.upper()", PATIENT, ["ALDER"]),
        ("name.last().family", PATIENT, ["Birch"]),
        ("(name.family | name.given).count()", PATIENT, [2]),
        ("value is Quantity", NUMBER, [True]),
    ],
)
def test_beyond_the_subset_another_engine_answers(path: str, body: bytes, expected: list[object]) -> None:
    """An expression outside the subset gives its values all the same, and the view says that it is slower."""
    resource = json.loads(body)["resourceType"]
    made = load_view(
        of(column("id"), {"column": [{"name": "b", "path": path, "collection": True}]}, resource=resource)
    )
    result = made.run([body])

    assert result.failures == []
    assert result.columns["b"] == [expected]
    assert not made.compiled
    assert made.notes == (
        "view v: select[1].column[0].path is outside the compiled subset and left to fhirpathpy, about 30 times slower",
    )


def test_beyond_the_subset_a_resource_still_fails_alone() -> None:
    """An expression that the other engine cannot evaluate on a resource fails that resource, and no other."""
    made = load_view(of(column("name.family.upper()"), resource="Patient"))
    single = b'{"resourceType":"Patient","name":[{"family":"Cedar"}]}'
    result = made.run([PATIENT, single])

    assert result.rows() == [{"a": "CEDAR"}]
    assert [(failure.index, failure.code) for failure in result.failures] == [(0, "shape")]


@pytest.mark.parametrize(
    "path",
    [
        "1" + " + 1" * 400,
        "name" + ".first()" * 130,
        "(" * 5000 + "1" + ")" * 5000,
        "-" * 150 + "1",
        "-" * 5000 + "1",
    ],
)
def test_an_expression_that_is_too_deep(path: str) -> None:
    """An expression that no stack would hold is a mistake of the view, not a crash."""
    with pytest.raises(StudyFileError, match=r"select\[0\].column\[0\].path: the expression is"):
        load_view(of(column(path), resource="Patient"))


@pytest.mark.parametrize("path", ["birthDate < '1970'", "birthDate = '1970'", "birthDate = @T10:00"])
def test_dates_are_compared_with_dates(path: str) -> None:
    """A date beside a text or a time of day has no order, and the message says how a date is written."""
    with pytest.raises(StudyFileError, match="cannot be joined by"):
        load_view(of(column(path), resource="Patient"))
