"""From a value of a row to the elements of the resources that it was made of.

A row names its views and resources; `mappings/origins.yaml` names, for each variable, the columns that the mapping
looks at and what it makes of them; the view says which element a column is. The view is run again on the resource, so
that what is shown is what stands there, not what somebody remembers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import msgspec

from fhir_adapter.assets import asset
from fhir_adapter.errors import StudyFileError
from fhir_adapter.mapping.domains.context import RawResource
from fhir_adapter.mapping.views import CompiledView, load_view
from fhir_adapter.yamlfile import read_yaml

__all__ = ["Element", "Origin", "elements", "origin"]


class Origin(msgspec.Struct, frozen=True):
    """Where a variable comes from. `columns` are patterns in the order of precedence; see `mappings/origins.yaml`."""

    columns: tuple[str, ...] = ()
    concept_map: str = ""
    how: str = ""
    assigned: str = ""


class Element(msgspec.Struct, frozen=True):
    """An element of a resource behind a value.

    Attributes:
        variable: of the dataset.
        resource: `Type/id`, with `/_history/version` where there is a version.
        view: the view that read it.
        column: its column there.
        path: the element as FHIRPath, from the resource.
        values: what stands there, as written.
        how: how the value of the variable is made of it.
    """

    variable: str
    resource: str
    view: str
    column: str
    path: str
    values: tuple[Any, ...]
    how: str


@cache
def _origins() -> dict[str, dict[str, Origin]]:
    tree, _ = read_yaml(asset("mappings", "origins.yaml"), StudyFileError, "the file of origins")
    return {
        dataset: {
            variable: Origin(
                tuple(item.get("from", ())),
                item.get("map", ""),
                item.get("how", ""),
                item.get("assigned", ""),
            )
            for variable, item in variables.items()
        }
        for dataset, variables in tree.items()
    }


def origin(dataset: str, variable: str) -> Origin | None:
    """Where a variable of a dataset comes from; None where that is not written down."""
    return _origins().get(dataset, {}).get(variable)


@cache
def _view(name: str) -> tuple[CompiledView, dict[str, str]]:
    """A view, and its columns' elements as FHIRPath from the resource."""
    path = asset("mappings", "views", f"{name}.json")
    tree = msgspec.json.decode(path.read_bytes())
    return load_view(path), dict(_paths(tree, tree["resource"]))


def _paths(select: Mapping[str, Any], above: str) -> Iterator[tuple[str, str]]:
    inner = select.get("forEach") or select.get("forEachOrNull")
    here = f"{above}.{inner}" if inner else above
    for column in select.get("column", ()):
        yield column["name"], f"{here}.{column['path']}"
    for part in (*select.get("select", ()), *select.get("unionAll", ())):
        yield from _paths(part, here)


def _sentence(found: Origin) -> str:
    said = f"by the concept map {' or '.join(found.concept_map.split())}" if found.concept_map else ""
    return "; ".join(part for part in (found.how, said) if part) or "as written"


def _distinct(values: Iterable[Any]) -> tuple[Any, ...]:
    flat: list[Any] = []
    for value in values:
        flat += value if isinstance(value, list) else [value]
    kept = {json.dumps(value, default=str): value for value in flat if value is not None}
    return tuple(kept.values())


def elements(
    dataset: str, variable: str, views: Iterable[str], resources: Iterable[tuple[str, RawResource]]
) -> tuple[Element, ...]:
    """The elements behind a variable of a row.

    Args:
        dataset: of the row.
        variable: of the row.
        views: the row's views (SRCVIEW).
        resources: the row's resources (SRCREF): reference and body of each.

    Returns:
        Those that are there, in the order in which the mapping looks at them; none for a value that is assigned.
    """
    found = origin(dataset, variable)
    if found is None:
        return ()
    held = list(resources)
    own = list(dict.fromkeys(views))
    result: list[Element] = []
    for pattern in found.columns:
        view_name, _, column_pattern = pattern.rpartition(".")
        for name in [view_name] if view_name else own:
            view, paths = _view(name)
            for reference, resource in held:
                if resource.type != view.resource:
                    continue
                run = view.run([resource.body])
                for column, values in run.columns.items():
                    there = _distinct(values) if fnmatchcase(column, column_pattern) else ()
                    if there:
                        element = Element(
                            variable, reference, name, column, paths[column], there, _sentence(found)
                        )
                        result.append(element)
    return tuple(dict.fromkeys(result))
