"""The official test suite of SQL on FHIR v2, one test for each of its tests.

The suite is not part of this repository. It is read from the folder that SQL_ON_FHIR_TESTS names, else from
`shared/sql-on-fhir/tests` beside the repository; where neither is there, these tests are skipped.
"""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fhir_adapter.errors import StudyFileError
from fhir_adapter.mapping.views import load_view

_BESIDE = Path(__file__).resolve().parents[3].parent / "shared" / "sql-on-fhir" / "tests"
SUITE = Path(os.environ.get("SQL_ON_FHIR_TESTS") or _BESIDE)
MISSING = "the official SQL on FHIR v2 suite is not here: set SQL_ON_FHIR_TESTS to its folder `tests`"


def _read() -> list[Any]:
    found = []
    for path in sorted(SUITE.glob("*.json")):
        parts = msgspec.json.decode(path.read_bytes(), type=dict[str, msgspec.Raw])
        bodies = [bytes(raw) for raw in msgspec.json.decode(parts["resources"], type=list[msgspec.Raw])]
        tests = json.loads(bytes(parts["tests"]), parse_float=Decimal)
        found += [pytest.param(bodies, test, id=f"{path.stem}: {test['title']}") for test in tests]
    return found or [pytest.param([], {}, marks=pytest.mark.skip(reason=MISSING))]


def _typed(value: Any) -> Any:
    """A value with its JSON type beside it, since `True == 1` in Python; 1.0 and 1.00 are one number."""
    if isinstance(value, list):
        return ["list", *map(_typed, value)]
    if isinstance(value, dict):
        return {key: _typed(item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, str)):
        return [type(value).__name__, value]
    return ["number", Decimal(value)]


#: Two tests whose rows come in another order: their order is that of a database, which goes over all resources for one
#: branch of a union, or over the second loop first; here each resource is worked off alone, loops in the order of the
#: view. "The order of the columns is important, but the order of the rows should be disregarded" (the suite's
#: maintainers in HL7/sql-on-fhir, issue 203).
ANOTHER_ORDER = {"forEach: two on the same level", "%rowIndex in unionAll without forEach"}


def _in_order(rows: list[Any], title: str) -> list[Any]:
    typed = [_typed(row) for row in rows]
    return sorted(typed, key=lambda row: repr(sorted(row.items()))) if title in ANOTHER_ORDER else typed


@pytest.mark.parametrize(("bodies", "test"), _read())
def test_official(bodies: list[bytes], test: dict[str, Any]) -> None:
    """A view of the suite gives the expected rows, values and types, or the expected error."""
    if test.get("expectError"):
        try:
            result = load_view(test["view"]).run(bodies)
        except StudyFileError:
            return
        assert result.failures
        return
    view = load_view(test["view"])
    result = view.run(bodies)
    assert result.failures == []
    if "expectCount" in test:
        assert len(result) == test["expectCount"]
    else:
        assert _in_order(result.rows(), test["title"]) == _in_order(test["expect"], test["title"])
    if "expectColumns" in test:
        assert [column.name for column in view.columns] == test["expectColumns"]
        assert list(result.columns) == test["expectColumns"]


def test_the_suite_is_whole() -> None:
    """The suite that was read has all of its tests, so that a cut copy does not pass for a pass."""
    if not SUITE.is_dir():
        pytest.skip(MISSING)
    assert len(_read()) >= 134
