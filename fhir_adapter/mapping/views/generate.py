"""Generated Python for the plain columns of a select: one pass over a node, without a list for each step.

The generated function knows only what is as FHIR says. Where a node looks otherwise it hands over to the closures
of the columns, which decide whether that is a failure and name its place; so both give the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

__all__ = ["Head", "Plain", "head", "loop"]

#: The values of a row's own columns, for a node and an environment.
Head = Callable[[Any, Mapping[str, Any]], list[Any]]
_TYPES = {"text": "str", "date": "str", "boolean": "bool", None: "dict"}


@dataclass(frozen=True)
class Plain:
    """A column that is a path of plain elements.

    Attributes:
        steps: JSON keys and whether a list belongs there.
        kind: family of its type (`elements.family`).
        collection: whether it takes several values.
        check: checks one number.
    """

    steps: tuple[tuple[str, bool], ...]
    kind: str | None
    collection: bool
    check: Callable[[Any], Any]


def loop(
    steps: tuple[tuple[str, bool], ...] | None, closure: Callable[[Any, Mapping[str, Any]], list[Any]]
) -> Callable[[Any, Mapping[str, Any]], list[Any]]:
    """A function that gives the elements of a loop; a path whose last element alone is a list is walked directly.

    Args:
        steps: the steps of the path if it is a plain one.
        closure: the closure of the path, for a node.
    """
    if not steps or [several for _, several in steps] != [False] * (len(steps) - 1) + [True]:
        return closure
    keys = tuple(key for key, _ in steps)

    def elements(node: Any, env: Mapping[str, Any]) -> list[Any]:
        value = node
        for key in keys:
            if type(value) is not dict:
                return closure(node, env)
            value = value.get(key)
            if value is None:
                return []
        return value if type(value) is list and None not in value else closure(node, env)

    return elements


@dataclass
class _Branch:
    several: bool = False
    columns: list[int] = field(default_factory=list)
    below: dict[str, _Branch] = field(default_factory=dict)


def head(columns: list[Plain | None], closures: list[Callable[[Any, Mapping[str, Any]], Any]]) -> Head:
    """A function that gives the values of all columns.

    Args:
        columns: what is known of each column, None where its closure has to do it.
        closures: the closure of each column.
    """

    def slow(node: Any, env: Mapping[str, Any]) -> list[Any]:
        return [closure(node, env) for closure in closures]

    if not any(columns):
        return slow
    root = _Branch()
    for number, column in enumerate(columns):
        branch = root
        for key, several in column.steps if column is not None else ():
            branch = branch.below.setdefault(key, _Branch(several))
        if column is not None:
            branch.columns.append(number)
    lines = ["def head(node, env):", " if type(node) is not dict: return slow(node, env)"]
    for number, column in enumerate(columns):
        start = f"call{number}(node, env)" if column is None else "[]" if column.collection else "None"
        lines.append(f" value{number} = {start}")
    _Writer(columns, lines).below(root, "node", " ", many=False)
    lines.append(f" return [{', '.join(f'value{number}' for number in range(len(columns)))}]")
    names: dict[str, Any] = {"slow": slow, "Decimal": Decimal}
    for number, column in enumerate(columns):
        names[f"call{number}"] = closures[number]
        names[f"check{number}"] = column.check if column is not None else None
    exec("\n".join(lines), names)  # noqa: S102 - made of JSON keys, as literals, and of numbers
    made: Head = names["head"]
    return made


class _Writer:
    def __init__(self, columns: list[Plain | None], lines: list[str]) -> None:
        self._columns = columns
        self._lines = lines
        self._names = 0

    def below(self, branch: _Branch, node: str, space: str, *, many: bool) -> None:
        """Writes what is done with the elements of a node; `many` if the node is one of a list."""
        for key, child in branch.below.items():
            self._names += 1
            name = f"n{self._names}"
            self._lines += [f"{space}{name} = {node}.get({key!r})", f"{space}if {name} is not None:"]
            inner = space + " "
            if child.several:
                self._lines += [
                    f"{inner}if type({name}) is not list: return slow(node, env)",
                    f"{inner}for {name} in {name}:",
                    f"{inner} if {name} is None: continue",
                ]
                inner += " "
            for number in child.columns:
                self._column(number, name, inner, many or child.several)
            if child.below:
                self._lines.append(f"{inner}if type({name}) is not dict: return slow(node, env)")
                self.below(child, name, inner, many=many or child.several)

    def _column(self, number: int, name: str, space: str, many: bool) -> None:
        column = self._columns[number]
        assert column is not None  # noqa: S101 - the tree holds plain columns alone
        value = name
        if column.kind == "number":
            self._lines.append(
                f"{space}if type({name}) is not int and type({name}) is not Decimal: return slow(node, env)"
            )
            value = f"check{number}({name})"
        else:
            self._lines.append(f"{space}if type({name}) is not {_TYPES[column.kind]}: return slow(node, env)")
        if column.collection:
            self._lines.append(f"{space}value{number}.append({value})")
            return
        if many:
            self._lines.append(f"{space}if value{number} is not None: return slow(node, env)")
        self._lines.append(f"{space}value{number} = {value}")
