"""The quick way to run a view: msgspec structs of the elements that it touches, and one generated function.

A view that is made of plain paths, `extension(url)`, `where(...)`, `first()`, keys and loops is planned over the JSON
keys it reads. Structs of just these keys decode a resource in one pass, and check the shape while they do; a generated
function goes over them and writes the rows, without a list or a call for each step. It knows only resources that
are as FHIR says. Where one looks otherwise, it is left to the closures of the view, which decide whether that is a
failure and name its place; so both ways give the same, and a test holds them to it.

A view with anything else has no quick way (`plan` gives None), and is run by its closures alone.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from fhir_adapter.mapping.fhirpath.cardinality import in_order
from fhir_adapter.mapping.fhirpath.compiler import is_id, reference_key
from fhir_adapter.mapping.fhirpath.elements import Choice, elements, family
from fhir_adapter.mapping.fhirpath.parser import (
    Binary,
    Call,
    Constant,
    FhirPathError,
    Index,
    Literal,
    Member,
    Node,
    This,
    parse,
)
from fhir_adapter.mapping.views.run import MAX_DIGITS, Column

__all__ = ["Run", "plan"]

#: Resources, and what gives the rows of one that is left, to one flat list: the values of a row, the number of its
#: resource, the values of the next row. Columns are cut out of it; that costs half of appending to each of them.
Run = Callable[[Iterable[bytes], Callable[[int, bytes], "list[list[Any]]"]], "list[Any]"]

#: A loop inside a loop writes what follows it twice (`forEachOrNull`, `unionAll`); such a view is left to the closures.
_MAX_LINES = 3000
_LEAVES = {"text": str | None, "date": str | None, "boolean": bool | None, "number": Any}


class _UnfitError(Exception):
    """The view has something that is not planned here."""


class _LeftError(Exception):
    """A resource that the generated function leaves to the closures."""


@lru_cache(maxsize=1 << 16)
def _decimal(text: str) -> Decimal:
    """A number as written; measurements repeat, hence the memory."""
    if len(text) > MAX_DIGITS or "e" in text or "E" in text:
        raise _LeftError
    return Decimal(text)


def _whole(value: Any) -> int:
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise _LeftError
    return value


def _number(value: Any) -> int:
    """An integer in a decimal column; decimals do not come here."""
    if type(value) is not int or abs(value) >= 10**MAX_DIGITS:
        raise _LeftError
    return value


def _resource_key(type_: str, id_: str | None) -> str:
    if id_ is None or not is_id(id_):
        raise _LeftError
    return f"{type_}/{id_}"


@dataclass
class _Shape:
    """JSON keys of an object that are read: leaves by family, else the shape below; and whether a list is there.

    `type` is the FHIR type of the object.
    """

    release: str
    type: str
    keys: dict[str, tuple[str | _Shape, bool]] = field(default_factory=dict)

    def leaf(self, key: str, kind: str, several: bool) -> None:
        kind = "text" if kind == "date" else kind
        if self.keys.setdefault(key, (kind, several)) != (kind, several):
            raise _UnfitError

    def below(self, key: str, several: bool, type_: str) -> _Shape:
        shape, _ = self.keys.setdefault(key, (_Shape(self.release, type_), several))
        if isinstance(shape, str):
            raise _UnfitError
        return shape

    def struct(self, name: str, first: Sequence[tuple[str, Any]] = ()) -> Any:
        fields: list[Any] = list(first)
        # A decoder looks for the next key first, so the order of the specification saves it a search.
        for key in in_order(self.release, self.type, self.keys):
            inner, several = self.keys[key]
            kind: Any = _LEAVES[inner] if isinstance(inner, str) else inner.struct(f"{name}_{key}") | None
            if several:
                # A list with a null in it is rare (an extension stands in its place), and left to the closures.
                bare = {"text": str, "boolean": bool, "number": Any}
                item: Any = bare[inner] if isinstance(inner, str) else kind.__args__[0]
                kind = list[item] | None
            fields.append((f"f_{key}", kind, None))
        # No reference leads back from a struct: the garbage collector need not know them.
        return msgspec.defstruct(name, fields, rename=lambda key: key.removeprefix("f_"), gc=False)


@dataclass(frozen=True)
class _Key:
    """An element of a type; `first` takes the first of a list."""

    name: str
    several: bool
    type: str
    first: bool = False

    @property
    def many(self) -> bool:
        return self.several and not self.first


@dataclass(frozen=True)
class _Url:
    text: str


@dataclass(frozen=True)
class _Where:
    condition: Node
    type: str


@dataclass(frozen=True)
class _Id:
    """The key of the resource."""


_Step = _Key | _Url | _Where | _Id


@dataclass(frozen=True)
class _Path:
    """Steps from a node; `end` is `first`, `resource key` or `reference key` (`of` its type)."""

    steps: tuple[_Step, ...]
    type: str
    end: str = ""
    of: str | None = None


@dataclass
class _Branch:
    """Columns by the steps that they share."""

    columns: list[tuple[int, _Path]] = field(default_factory=list)
    below: dict[_Step, _Branch] = field(default_factory=dict)


class _Planner:
    def __init__(
        self,
        definition: dict[str, Any],
        release: str,
        constants: Mapping[str, Literal],
        columns: Sequence[Column],
    ) -> None:
        self.definition = definition
        self.resource: str = definition["resource"]
        self.tables = elements(release)
        self.constants = constants
        self.columns = {column.name: (number, column) for number, column in enumerate(columns)}
        self.root = _Shape(release, self.resource)
        self.helpers: list[str] = []
        self.lines: list[str] = []
        self._names = 0

    def name(self) -> str:
        self._names += 1
        return f"n{self._names}"

    # Paths: from the tree of an expression to steps.

    def literal(self, node: Node) -> Literal:
        if isinstance(node, Constant) and node.name in self.constants:
            return self.constants[node.name]
        if isinstance(node, Literal):
            return node
        raise _UnfitError

    def path(self, node: Node, type_: str) -> _Path:
        """Steps of an expression in the context of a type."""
        if isinstance(node, This):
            return _Path((), type_)
        if isinstance(node, Member):
            if isinstance(node.of, This) and node.name == type_:
                return _Path((), type_)
            return self.element(self.open(node.of, type_), node.name, None)
        if isinstance(node, Index) and node.index == Literal(0, "integer"):
            base = self.open(node.of, type_)
            return _Path(base.steps, base.type, "first")
        if not isinstance(node, Call):
            raise _UnfitError
        if node.name == "ofType" and isinstance(node.of, Member) and isinstance(node.arguments[0], Member):
            return self.element(self.open(node.of.of, type_), node.of.name, node.arguments[0].name)
        base = self.open(node.of, type_)
        if node.name == "extension":
            url = self.literal(node.arguments[0])
            if not isinstance(url.value, str):
                raise _UnfitError
            return _Path((*base.steps, _Key("extension", True, "Extension"), _Url(url.value)), "Extension")
        if node.name == "where":
            return _Path((*base.steps, _Where(node.arguments[0], base.type)), base.type)
        if node.name == "first":
            return _Path(base.steps, base.type, "first")
        if node.name == "getResourceKey" and not base.steps and type_ == self.resource:
            return _Path((_Id(),), "id", "resource key")
        if node.name == "getReferenceKey" and base.type == "Reference":
            of = node.arguments[0].name if node.arguments and isinstance(node.arguments[0], Member) else None
            if node.arguments and of is None:
                raise _UnfitError
            return _Path((*base.steps, _Key("reference", False, "string")), "string", "reference key", of)
        raise _UnfitError

    def open(self, node: Node, type_: str) -> _Path:
        """A path that goes on."""
        path = self.path(node, type_)
        if not path.end:
            return path
        *before, last = path.steps or (None,)
        lone = all(isinstance(step, _Key) and not step.many for step in before)
        if path.end != "first" or not lone or not isinstance(last, _Key):
            raise _UnfitError
        return _Path((*path.steps[:-1], replace(last, first=last.several)), path.type)

    def element(self, base: _Path, name: str, choice: str | None) -> _Path:
        if family(base.type) is not None:
            raise _UnfitError
        found = self.tables.child(base.type, name)
        if isinstance(found, Choice) != (choice is not None):
            raise _UnfitError
        key, several, type_ = name, False, ""
        if isinstance(found, Choice):
            key, type_ = found.key(choice or "") or "", choice or ""
        else:
            told = self.tables.repeats(base.type, name)
            if told is None:
                raise _UnfitError
            several, type_ = told, found
        if not key.isidentifier():
            raise _UnfitError
        return _Path((*base.steps, _Key(key, several, type_)), type_)

    # Shapes: what the steps read.

    def read(self, shape: _Shape, steps: Sequence[_Step], type_: str) -> _Shape | None:
        """Notes the keys of steps; the shape at their end, None if that is a value of type `type_`."""
        for number, step in enumerate(steps):
            if isinstance(step, _Url):
                shape.leaf("url", "text", False)
            elif isinstance(step, _Id):
                shape.leaf("id", "text", False)
                return None
            elif isinstance(step, _Key):
                kind = family(type_) if number == len(steps) - 1 else None
                if kind is not None:
                    shape.leaf(step.name, kind, step.several)
                    return None
                shape = shape.below(step.name, step.several, step.type)
        return shape

    # Code. `var` is a variable that holds a struct; `space` is the indentation.

    def put(self, space: str, *lines: str) -> None:
        self.lines += [space + line for line in lines]
        if len(self.lines) > _MAX_LINES:
            raise _UnfitError

    def walk(self, steps: Sequence[_Step], var: str, shape: _Shape, space: str) -> tuple[str, str]:
        """Opens the loops and conditions of steps; the variable and indentation inside."""
        for step in steps:
            if isinstance(step, _Key):
                name = self.name()
                self.put(space, f"{name} = {var}.f_{step.name}", f"if {name} is not None:")
                space += " "
                if step.several:
                    var, name = name, self.name()
                    self.put(space, f"for {name} in {var}{'[:1]' if step.first else ''}:")
                    space += " "
                var = name
                inner = shape.keys[step.name][0]
                shape = inner if isinstance(inner, _Shape) else shape
            elif isinstance(step, _Url):
                self.put(space, f"if {var}.f_url is None: raise Left", f"if {var}.f_url == {step.text!r}:")
                space += " "
            elif isinstance(step, _Where):
                self.put(space, f"if {self.truth(step.condition, step.type, shape, var)}:")
                space += " "
        return var, space

    def truth(self, node: Node, type_: str, shape: _Shape, var: str) -> str:
        """A Python expression that is true where the condition is; empty and false are one here."""
        if isinstance(node, Binary) and node.operator in {"and", "or"}:
            parts = [self.truth(one, type_, shape, var) for one in (node.left, node.right)]
            return f"({parts[0]} {node.operator} {parts[1]})"
        if isinstance(node, Binary) and node.operator in {"=", "!="}:
            return self.compared(node, type_, shape, var)
        if isinstance(node, Call) and node.name == "not":
            if not _total(node.of):
                raise _UnfitError  # not() of nothing is nothing
            return f"(not {self.truth(node.of, type_, shape, var)})"
        if isinstance(node, Call) and node.name in {"exists", "empty"}:
            of: Node = Call(node.of, "where", node.arguments) if node.arguments else node.of
            path = self.open(of, type_)
            found = self.helper(path, shape, var, "return True")
            return found if node.name == "exists" else f"(not {found})"
        path = self.open(node, type_)
        if path.type != "boolean" or not all(isinstance(step, _Key) and not step.many for step in path.steps):
            raise _UnfitError
        return self.helper(path, shape, var, "return {} is True")

    def compared(self, node: Binary, type_: str, shape: _Shape, var: str) -> str:
        value = self.literal(node.right)
        path = self.open(node.left, type_)
        kinds = {family(path.type), family(value.type)}
        if kinds not in ({"text"}, {"boolean"}):
            raise _UnfitError  # dates compare by their precision, numbers by their kind
        if not all(isinstance(step, _Key) and not step.many for step in path.steps) or not path.steps:
            raise _UnfitError
        sign = "==" if node.operator == "=" else "!="
        step = path.steps[0]
        if len(path.steps) == 1 and sign == "==" and isinstance(step, _Key) and not step.several:
            self.read(shape, path.steps, path.type)
            return f"{var}.f_{step.name} == {value.value!r}"
        return self.helper(path, shape, var, f"return {{}} {sign} {value.value!r}")

    def helper(self, path: _Path, shape: _Shape, var: str, found: str) -> str:
        """A function that says whether a path leads to something; `found` is what it does there."""
        self.read(shape, path.steps, path.type)
        name, kept = f"has_{self.name()}", self.lines
        self.lines = [f"def {name}(node):"]
        inner, space = self.walk(path.steps, "node", shape, " ")
        self.put(space, found.format(inner))
        self.put(" ", "return False")
        self.helpers += self.lines
        self.lines = kept
        return f"{name}({var})"

    def column(self, number: int, column: Column, path: _Path, var: str, space: str, *, many: bool) -> None:
        value, kind = var, family(column.type)
        if path.end == "reference key":
            value = self.name()
            self.put(space, f"{value} = reference_key({var}, {path.of!r})", f"if {value} is not None:")
            space += " "
        elif kind == "number" and column.type == "decimal":
            value = f"{var} if type({var}) is Decimal else number({var})"
        elif kind == "number":
            value = f"whole({var})"
        if column.collection and path.end == "first":
            self.put(space, f"if not v{number}: v{number}.append({value})")
        elif column.collection:
            self.put(space, f"v{number}.append({value})")
        elif path.end == "first":
            self.put(space, f"if v{number} is None: v{number} = {value}")
        else:
            if many:
                self.put(space, f"if v{number} is not None: raise Left")
            self.put(space, f"v{number} = {value}")

    def direct(self, step: _Step, below: _Branch) -> int | None:
        """The column that a step gives by itself: one value without a list, a key or a whole number to check."""
        if not isinstance(step, _Key) or step.several or below.below or len(below.columns) != 1:
            return None
        number, path = below.columns[0]
        column = self.by_number[number]
        plain = family(column.type) != "number" or column.type == "decimal"
        return number if plain and not path.end and not column.collection else None

    def branch(self, branch: _Branch, var: str, shape: _Shape, space: str, *, many: bool) -> None:
        urls = [step for step in branch.below if isinstance(step, _Url)]
        url = self.name()
        if urls:
            self.put(space, f"{url} = {var}.f_url", f"if {url} is None: raise Left")
        for step, below in branch.below.items():
            if not many and (number := self.direct(step, below)) is not None:
                # The usual case in short: what the struct has is the value, and None where it has nothing.
                self.put(space, f"v{number} = {var}.f_{step.name}")  # type: ignore[union-attr]
                if family(self.by_number[number].type) == "number":
                    self.put(
                        space,
                        f"if v{number} is not None and type(v{number}) is not Decimal: v{number} = number(v{number})",
                    )
                continue
            inner, at = var, space
            if isinstance(step, _Id):
                # Also where there is no id, which is a failure.
                for number, _ in below.columns:
                    value = f"resource_key({self.resource!r}, {var}.f_id)"
                    self.put(
                        space,
                        f"v{number} = " + (f"[{value}]" if self.by_number[number].collection else value),
                    )
                continue
            if isinstance(step, _Url):
                self.put(space, f"if {url} == {step.text!r}:")
                at += " "
            else:
                inner, at = self.walk([step], var, shape, space)
            further = many or (isinstance(step, _Key) and step.many)
            under = shape.keys[step.name][0] if isinstance(step, _Key) else shape
            for number, path in below.columns:
                self.column(number, self.by_number[number], path, inner, at, many=further)
            if isinstance(under, _Shape):
                self.branch(below, inner, under, at, many=further)

    def select(
        self,
        item: dict[str, Any],
        type_: str,
        var: str,
        shape: _Shape,
        space: str,
        then: Callable[[str], None],
    ) -> None:
        """Writes one select; `then` writes what is done with each of its rows."""
        if "repeat" in item:
            raise _UnfitError
        loop = next((key for key in ("forEach", "forEachOrNull") if key in item), None)
        outside, seen = space, ""
        if loop is not None:
            path = self.open(parse(item[loop]), type_)
            under = self.read(shape, path.steps, path.type)
            if under is None:
                raise _UnfitError
            if loop == "forEachOrNull":
                seen = f"seen{self.name()}"
                self.put(space, f"{seen} = False")
            var, space = self.walk(path.steps, var, shape, space)
            if seen:
                self.put(space, f"{seen} = True")
            type_, shape = path.type, under
        tree = _Branch()
        own: list[int] = []
        found: dict[int, Node] = {}
        for given in item.get("column") or ():
            number, column = self.columns[given["name"]]
            own.append(number)
            self.by_number[number] = column
            node = parse(given["path"])
            if _total(node) and not column.collection:
                found[number] = node
                continue
            path = self.path(node, type_)
            if not path.steps or self.read(shape, path.steps, path.type) is not None:
                raise _UnfitError  # a whole element as JSON
            branch = tree
            for step in path.steps:
                branch = branch.below.setdefault(step, _Branch())
            branch.columns.append((number, path))
        for number, node in found.items():
            self.put(space, f"v{number} = {self.truth(node, type_, shape, var)}")
        sure = {self.direct(step, below) for step, below in tree.below.items()}
        for number in own:
            if number not in sure and number not in found:
                self.put(space, f"v{number} = {'[]' if self.by_number[number].collection else 'None'}")
        self.branch(tree, var, shape, space, many=False)
        parts = list(item.get("select") or ())
        union = item.get("unionAll")

        def rest(number: int) -> Callable[[str], None]:
            def write(at: str) -> None:
                if number < len(parts):
                    self.select(parts[number], type_, var, shape, at, rest(number + 1))
                elif union:
                    for one in union:
                        self.select(one, type_, var, shape, at, then)
                else:
                    then(at)

            return write

        rest(0)(space)
        if seen:
            self.put(outside, f"if not {seen}:")
            at = outside + " "
            for number in own:
                none = "[]" if self.by_number[number].collection else "None"
                self.put(at, f"v{number} = {_of_nothing(found[number]) if number in found else none}")
            for name in _names(parts, union):
                self.put(at, f"v{self.columns[name][0]} = None")
            then(at)

    by_number: dict[int, Column]

    def write(self) -> Run:
        self.by_number = {}
        width = len(self.columns)
        row = f"rows += ({''.join(f'v{number}, ' for number in range(width))}index)"
        loop = "   "
        for item in self.definition.get("where") or ():
            self.put(
                loop, f"if not {self.truth(parse(item['path']), self.resource, self.root, 'node')}: continue"
            )

        def selects(number: int) -> Callable[[str], None]:
            def write(at: str) -> None:
                given = self.definition["select"]
                if number < len(given):
                    self.select(given[number], self.resource, "node", self.root, at, selects(number + 1))
                else:
                    self.put(at, row)

            return write

        selects(0)(loop)
        lines = [
            *self.helpers,
            "def run(bodies, leave):",
            " rows = []",
            " for index, body in enumerate(bodies):",
            "  try:",
            "   node = decode(body)",
            *self.lines,
            "  except (Left, ValueError, RecursionError):",
            f"   while rows and rows[-1] == index: del rows[-{width + 1}:]",
            "   for row in leave(index, body): rows += (*row, index)",
            " return rows",
        ]
        # A resource of another type, or of none, is left to the closures: they pass it over, or say what is wrong.
        only: Any = typing.Literal[self.resource]
        resource = self.root.struct(self.resource, [("f_resourceType", only)])
        names: dict[str, Any] = {
            "decode": msgspec.json.Decoder(resource, float_hook=_decimal).decode,
            "Left": _LeftError,
            "Decimal": Decimal,
            "number": _number,
            "whole": _whole,
            "resource_key": _resource_key,
            "reference_key": reference_key,
        }
        exec("\n".join(lines), names)  # noqa: S102 - made of JSON keys and of literals written by repr
        run: Run = names["run"]
        return run


def _total(node: Node) -> bool:
    """Whether an expression is true or false and never empty, whatever it looks at."""
    if not isinstance(node, Call):
        return False
    return node.name in {"exists", "empty"} or (node.name == "not" and _total(node.of))


def _of_nothing(node: Node) -> bool:
    """What a total expression says of an element that is not there."""
    assert isinstance(node, Call)  # noqa: S101 - see `_total`
    return not _of_nothing(node.of) if node.name == "not" else node.name == "empty"


def _names(parts: Iterable[dict[str, Any]], union: list[dict[str, Any]] | None) -> Iterator[str]:
    """Names of the columns of nested selects; branches of a union have the same."""
    for part in [*parts, *(union or [])[:1]]:
        yield from (column["name"] for column in part.get("column") or ())
        yield from _names(part.get("select") or (), part.get("unionAll"))


def plan(
    definition: dict[str, Any], release: str, constants: Mapping[str, Literal], columns: Sequence[Column]
) -> Run | None:
    """Plans the quick way of a view that has been checked.

    Args:
        definition: the ViewDefinition.
        release: R4 or R5.
        constants: its constants.
        columns: its columns in order.

    Returns:
        A function that gives the rows of resources, None if the view has something that it cannot do. For a resource
        that is not as FHIR says it takes what `leave` gives for its number and its text.
    """
    try:
        return _Planner(definition, release, constants, columns).write()
    except (_UnfitError, FhirPathError):
        return None
