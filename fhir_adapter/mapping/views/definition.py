"""ViewDefinitions: read, checked as a whole when loaded, compiled into row makers (SQL on FHIR v2).

A misspelt path, an unknown constant, a duplicate column or a type that does not fit is an error that names
its place; it never becomes a column of nulls.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TypedDict

import msgspec

from fhir_adapter.errors import StudyFileError
from fhir_adapter.mapping.fhirpath.compiler import Compiled, Scope, ShapeError, compile_path
from fhir_adapter.mapping.fhirpath.elements import UnknownElementError, elements, family
from fhir_adapter.mapping.fhirpath.parser import FhirPathError, Literal
from fhir_adapter.mapping.views.run import MAX_DIGITS, Column, Failure, RunResult
from fhir_adapter.mapping.views.structs import plan
from fhir_adapter.undecodable import UNDECODABLE

__all__ = ["CompiledView", "load_view"]

#: Deeper JSON than this is not a resource (FHIR sets no limit; real ones stay below 20).
MAX_DEPTH = 64
_DECODER = msgspec.json.Decoder(float_hook=Decimal)

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
#: Environment variables of FHIRPath and of views, which no constant may hide.
_RESERVED = {"rowIndex", "context", "resource", "rootResource", "ucum", "sct", "loinc"}
Row = list[Any]
Env = Mapping[str, Any]
Rows = Callable[[Any, Env], list[Row]]
Value = Callable[[Any, Env], Any]


@dataclass(frozen=True)
class _Part:
    """A compiled select: its rows for a node, and how many columns a row has."""

    rows: Rows
    width: int


class _ViewMistakeError(Exception):
    """A mistake in a view, with its place."""

    def __init__(self, place: str, text: str) -> None:
        super().__init__(f"{place}: {text}" if place else text)


def _keys(item: dict[str, Any], known: set[str], place: str) -> None:
    """A misspelt key (`foreach`) must not be passed over."""
    for key in item:
        if key.removeprefix("_") not in {*known, "id", "extension", "modifierExtension"} or not isinstance(
            key, str
        ):
            raise _ViewMistakeError(place, f"there is no key {key}")


def _list(value: Any, place: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _ViewMistakeError(place, "a list is expected")
    return value


def _value_of(raw: Any, path: str, column: Column, told: str | None) -> Any:
    """Checks one value against the type of its column; `told` is the type that the path gives."""
    kind = family(column.type)
    if kind is None:
        if told is not None and type(raw) is not dict:
            raise ShapeError(path, "an object was expected here")
        return raw
    fits = {
        "boolean": isinstance(raw, bool),
        "number": isinstance(raw, (int, Decimal)) and not isinstance(raw, bool),
    }.get(kind, isinstance(raw, str))
    if not fits:
        raise ShapeError(path, f"a {'text' if kind in {'text', 'date'} else kind} was expected here")
    if kind != "number":
        return raw
    if isinstance(raw, Decimal):
        _, digits, exponent = raw.as_tuple()
        if (
            not isinstance(exponent, int)
            or len(digits) + max(exponent, 0) > MAX_DIGITS
            or -exponent > MAX_DIGITS
        ):
            raise ShapeError(path, f"a number of at most {MAX_DIGITS} digits was expected here")
        if column.type == "decimal":
            return raw
        if raw != raw.to_integral_value():
            raise ShapeError(path, "a whole number was expected here")
        raw = int(raw)
    if column.type == "decimal":
        if abs(raw) >= 10**MAX_DIGITS:
            raise ShapeError(path, f"a number of at most {MAX_DIGITS} digits was expected here")
    elif not -(2**63) <= raw < 2**63:
        raise ShapeError(path, "a whole number of 64 bits was expected here")
    return raw


class _Compiler:
    def __init__(self, definition: dict[str, Any], release: str) -> None:
        self.release = release
        self.tables = elements(release)
        #: Whether rows have to be counted; the word in any other place costs a little time and is harmless.
        self.counted = "rowIndex" in str(definition.get("select"))
        self.columns: list[Column] = []
        self.slow: list[str] = []
        self.touched: set[str] = set()
        self.constants, self.constant_types = self._read_constants(definition)

    @staticmethod
    def _read_constants(definition: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        values: dict[str, Any] = {}
        types: dict[str, str] = {}
        for number, item in enumerate(_list(definition.get("constant"), "constant")):
            place = f"constant[{number}]"
            if not isinstance(item, dict) or not isinstance(item.get("name"), str):
                raise _ViewMistakeError(place, "a constant has a name")
            given = [key for key in item if key.startswith("value")]
            if len(given) != 1:
                raise _ViewMistakeError(place, "a constant has exactly one value")
            _keys(item, {"name", given[0]}, place)
            name, kind = item["name"], given[0].removeprefix("value")
            if not _NAME.fullmatch(name) or name in _RESERVED or name in values:
                raise _ViewMistakeError(f"{place}.name", f"{name} is taken, or is not a name")
            type_ = kind[:1].lower() + kind[1:]
            value = item[given[0]]
            if isinstance(value, float):
                value = Decimal(repr(value))
            fits = {"boolean": (bool,), "number": (int, Decimal), "text": (str,), "date": (str,)}
            if type(value) not in fits.get(family(type_) or "", ()):
                raise _ViewMistakeError(f"{place}.{given[0]}", f"this is not a {type_}")
            values[name], types[name] = value, type_
        return values, types

    def path(self, text: Any, scope: Scope, place: str) -> Compiled:
        try:
            compiled = compile_path(text, scope)
        except FhirPathError as error:
            raise _ViewMistakeError(place, str(error)) from None
        if not compiled.native:
            self.slow.append(place)
        return compiled

    def scope(self, context: Compiled) -> Scope:
        return Scope(context.type, self.release, self.constant_types, context.path, self.touched)

    @staticmethod
    def _tags(item: dict[str, Any], place: str) -> dict[str, str]:
        tags: dict[str, str] = {}
        for number, tag in enumerate(_list(item.get("tag"), f"{place}.tag")):
            if not isinstance(tag, dict) or not all(
                isinstance(tag.get(key), str) for key in ("name", "value")
            ):
                raise _ViewMistakeError(f"{place}.tag[{number}]", "a tag has a name and a value")
            tags[tag["name"]] = tag["value"]
        return tags

    def _column(self, item: Any, context: Compiled, place: str) -> Value:
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise _ViewMistakeError(place, "a column has a name and a path")
        _keys(item, {"name", "path", "description", "collection", "type", "tag"}, place)
        if not _NAME.fullmatch(item["name"]):
            raise _ViewMistakeError(
                f"{place}.name", "a name has letters, digits and underscores, and begins with a letter"
            )
        compiled = self.path(item.get("path"), self.scope(context), f"{place}.path")
        declared = item.get("type")
        told = compiled.type
        type_ = told if family(told) else None
        if declared is not None:
            if not isinstance(declared, str) or not self.tables.known(declared.rpartition("/")[2]):
                raise _ViewMistakeError(
                    f"{place}.type", f"there is no type {declared}" if declared else "a type is missing"
                )
            type_ = declared.rpartition("/")[2]
            kinds = {family(told), family(type_)}
            if told is not None and len(kinds) > 1 and kinds != {"text", "date"}:
                raise _ViewMistakeError(f"{place}.type", f"the path gives {told}, not {type_}")
        several = item.get("collection", False)
        if not isinstance(several, bool):
            raise _ViewMistakeError(f"{place}.collection", "true or false is expected")
        column = Column(item["name"], item["path"], type_, several, self._tags(item, place))
        self.columns.append(column)
        run, path = compiled.run, compiled.path

        def value(node: Any, env: Env) -> Any:
            found = run([node], env)
            if several:
                return [_value_of(item, path, column, told) for item in found]
            if not found:
                return None
            if len(found) > 1:
                raise ShapeError(path, "one value was expected here, there are several", "several")
            return _value_of(found[0], path, column, told)

        return value

    def select(self, item: Any, context: Compiled, place: str) -> _Part:
        """Compiles one select: its own columns, then nested selects, then unionAll, in this order."""
        if not isinstance(item, dict):
            raise _ViewMistakeError(place, "a select is an object")
        _keys(item, {"column", "select", "forEach", "forEachOrNull", "repeat", "unionAll"}, place)
        loops = [key for key in ("forEach", "forEachOrNull", "repeat") if key in item]
        if len(loops) > 1:
            raise _ViewMistakeError(place, f"{' and '.join(loops)} exclude each other")
        each, inner = self._loop(item, loops[0] if loops else None, context, place)
        made = [
            self._column(column, inner, f"{place}.column[{number}]")
            for number, column in enumerate(_list(item.get("column"), f"{place}.column"))
        ]
        parts = [
            self.select(part, inner, f"{place}.select[{number}]")
            for number, part in enumerate(_list(item.get("select"), f"{place}.select"))
        ]
        union = self._union(item, inner, place)
        if union is not None:
            parts.append(union)
        width = len(made) + sum(part.width for part in parts)
        inside = _product(made, parts)
        if each is None:
            return _Part(inside, width)
        or_null, counted = loops[0] == "forEachOrNull", self.counted
        values = made
        blank = [None] * (width - len(made))

        def rows(node: Any, env: Env) -> list[Row]:
            found: list[Row] = []
            number = -1
            for number, one in enumerate(each(node, env)):
                found += inside(one, {**env, "rowIndex": number} if counted else env)
            if or_null and number < 0:
                # One row of nulls; %rowIndex is 0 in it.
                at_zero = {**env, "rowIndex": 0}
                return [[*(value({}, at_zero) for value in values), *blank]]
            return found

        return _Part(rows, width)

    def _loop(
        self, item: dict[str, Any], kind: str | None, context: Compiled, place: str
    ) -> tuple[Callable[[Any, Env], Iterable[Any]] | None, Compiled]:
        if kind is None:
            return None, context
        if kind != "repeat":
            compiled = self.path(item[kind], self.scope(context), f"{place}.{kind}")
            run = compiled.run
            return lambda node, env: run([node], env), Compiled(_same, compiled.type, compiled.path)
        paths = _list(item["repeat"], f"{place}.repeat")
        if not paths:
            raise _ViewMistakeError(f"{place}.repeat", "a path is missing")
        # A path of repeat may exist at one level and not at another (`answer.item` below an item, not below
        # the resource), hence an element that is not there gives nothing; the columns are checked as ever.
        ways = [self._way(text, context, f"{place}.repeat[{number}]") for number, text in enumerate(paths)]
        kinds = {way.type for way in ways if way is not None}
        inner = Compiled(_same, kinds.pop() if len(kinds) == 1 else None, f"{context.path}.{paths[0]}")
        below = [self._way(text, inner, f"{place}.repeat[{number}]") for number, text in enumerate(paths)]
        if any(lower is not None and lower.type != inner.type for lower in below):
            # Elements of several types: what they have is not known.
            inner = Compiled(_same, None, inner.path)
        deeper = [way.run for way in below if way is not None]

        def walk(node: Any, env: Env, runs: list[Any], depth: int) -> Iterator[Any]:
            if depth > MAX_DEPTH:
                raise ShapeError(inner.path, "the elements are nested too deeply")
            for run in runs:
                for child in run([node], env):
                    yield child
                    yield from walk(child, env, deeper, depth + 1)

        first = [way.run for way in ways if way is not None]
        return lambda node, env: walk(node, env, first, 0), inner

    def _way(self, text: Any, context: Compiled, place: str) -> Compiled | None:
        """A path of repeat, None if its elements are not in this context."""
        try:
            return compile_path(text, self.scope(context))
        except UnknownElementError as error:
            if not self.tables.anywhere(error.name):
                raise _ViewMistakeError(place, str(error)) from None
            return None
        except FhirPathError as error:
            raise _ViewMistakeError(place, str(error)) from None

    def _union(self, item: dict[str, Any], context: Compiled, place: str) -> _Part | None:
        branches = _list(item.get("unionAll"), f"{place}.unionAll")
        if not branches:
            return None
        parts: list[_Part] = []
        kept = len(self.columns)
        first: list[Column] = []
        for number, branch in enumerate(branches):
            del self.columns[kept:]
            part = self.select(branch, context, f"{place}.unionAll[{number}]")
            own = self.columns[kept:]
            if not number:
                first = list(own)
            elif not _alike(first, own):
                raise _ViewMistakeError(
                    f"{place}.unionAll[{number}]",
                    "its columns are not those of the first branch by name, type and order",
                )
            parts.append(part)
        self.columns[kept:] = first
        return _Part(
            lambda node, env: [row for part in parts for row in part.rows(node, env)], parts[0].width
        )


def _alike(first: list[Column], other: list[Column]) -> bool:
    """Whether rows of two branches fit one table; text and dates are both text, an unknown type fits any."""
    if [(one.name, one.collection) for one in first] != [(one.name, one.collection) for one in other]:
        return False
    for one, two in zip(first, other, strict=True):
        kinds = {family(one.type), family(two.type)}
        if len(kinds) > 1 and kinds != {"text", "date"} and None not in kinds:
            return False
    return True


def _same(nodes: list[Any], env: Env) -> list[Any]:
    return nodes


def _product(made: list[Value], parts: list[_Part]) -> Rows:
    """The rows of a node: its own columns, joined with each row of each part."""

    def rows(node: Any, env: Env) -> list[Row]:
        # Own columns first, also where no row comes of it, since a wrong value fails its resource.
        joined = [[value(node, env) for value in made]]
        for part in parts:
            found = part.rows(node, env)
            if not found:
                return []
            joined = [row + more for row in joined for more in found]
        return joined

    return rows


def _depth(value: Any) -> int:
    """Depth of nested objects and lists, without recursion."""
    deepest, stack = 0, [(value, 1)]
    while stack:
        item, depth = stack.pop()
        if isinstance(item, (dict, list)):
            deepest = max(deepest, depth)
            if deepest > MAX_DEPTH:
                return deepest
            stack += [(one, depth + 1) for one in (item.values() if isinstance(item, dict) else item)]
    return deepest


def _decoder(touched: set[str]) -> Callable[[bytes], Any]:
    """Decodes of a resource what the view looks at; the rest is passed over, which is most of the time saved."""
    if "*" in touched:
        return _DECODER.decode
    make: Any = TypedDict  # its keys are known at run time only
    shape = make("Resource", dict.fromkeys(sorted(touched | {"resourceType"}), Any), total=False)
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(shape, float_hook=Decimal).decode
    return decode


class CompiledView:
    """A view that is ready to run.

    Attributes:
        name: name of the view.
        resource: the type of resource that it reads.
        columns: its columns in order.
        compiled: whether all expressions are compiled.
        quick: whether structs and one generated function do the work, about 10 times as fast as closures.
        notes: what keeps the view from the quick way, and about how much slower that is.
    """

    def __init__(self, definition: dict[str, Any], release: str) -> None:
        name = definition.get("name")
        self.name = name if isinstance(name, str) else "view"
        resource = definition.get("resource")
        if not isinstance(resource, str):
            raise _ViewMistakeError("resource", "the type of resource is missing")
        if not elements(release).resource(resource):
            raise _ViewMistakeError("resource", f"there is no resource type {resource} in {release}")
        self.resource = resource
        compiler = _Compiler(definition, release)
        root = Compiled(_same, resource, "$")
        selects = _list(definition.get("select"), "select")
        if not selects:
            raise _ViewMistakeError("select", "a view selects something")
        parts = [compiler.select(item, root, f"select[{number}]") for number, item in enumerate(selects)]
        self._product = _product([], parts)
        names = [column.name for column in compiler.columns]
        if not names:
            raise _ViewMistakeError("select", "a view has a column")
        double = sorted({one for one in names if names.count(one) > 1})
        if double:
            raise _ViewMistakeError("select", f"two columns have the name {', '.join(double)}")
        self._where = []
        for number, item in enumerate(_list(definition.get("where"), "where")):
            place = f"where[{number}].path"
            if not isinstance(item, dict):
                raise _ViewMistakeError(f"where[{number}]", "a condition has a path")
            _keys(item, {"path", "description"}, f"where[{number}]")
            condition = compiler.path(item.get("path"), compiler.scope(root), place)
            if condition.type is not None and family(condition.type) != "boolean":
                raise _ViewMistakeError(place, f"a condition is a boolean, not {condition.type}")
            self._where.append(condition)
        self._decode = _decoder(compiler.touched)
        self.columns = tuple(compiler.columns)
        self._env: dict[str, Any] = {**compiler.constants, "rowIndex": 0}
        self.compiled = not compiler.slow
        constants = {
            name: Literal(value, compiler.constant_types[name]) for name, value in compiler.constants.items()
        }
        self._quick = plan(definition, release, constants, self.columns) if self.compiled else None
        self.quick = self._quick is not None
        notes = [
            f"view {self.name}: {place} is outside the compiled subset and left to fhirpathpy, "
            "about 30 times slower"
            for place in compiler.slow
        ]
        if self.compiled and not self.quick:
            what = "more than plain paths, extensions, conditions and loops"
            notes = [f"view {self.name}: it has {what}, and is about 10 times slower for it"]
        self.notes = tuple(notes)

    def _rows(self, body: bytes) -> list[Row]:
        try:
            resource = self._decode(body)
        except RecursionError:
            raise ShapeError("$", "the JSON is nested too deeply", "depth") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            other = str(error).startswith("Expected `object`")
            reason = "this is not a JSON object" if other else "this is not JSON"
            raise ShapeError("$", reason, "json") from None
        if not isinstance(resource, dict):
            raise ShapeError("$", "this is not a JSON object", "json")
        type_ = resource.get("resourceType")
        if type_ != self.resource:
            if not isinstance(type_, str):
                raise ShapeError("$.resourceType", "the resource does not say its type", "type")
            return []
        # The number of brackets bounds the depth, and is cheap to count.
        if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _depth(resource) > MAX_DEPTH:
            raise ShapeError("$", "the JSON is nested too deeply", "depth")
        for condition in self._where:
            found = condition.run([resource], self._env)
            if not found:
                return []
            if len(found) > 1 or not isinstance(found[0], bool):
                raise ShapeError("$", "a condition of the view does not give a boolean here")
            if not found[0]:
                return []
        return self._product(resource, self._env)

    def run(self, resources: Iterable[bytes]) -> RunResult:
        """Runs the view over resources, each on its own.

        Args:
            resources: JSON texts. Other types than the view's are passed over.

        Returns:
            Rows by column, the resource of each row, and failures; a failure harms no other resource.
        """
        failures: list[Failure] = []

        def by_closures(index: int, body: bytes) -> list[Row]:
            try:
                return self._rows(body)
            except ShapeError as error:
                failures.append(Failure(index, error.path, error.reason, error.code))
                return []

        if self._quick is not None:
            flat = self._quick(resources, by_closures)
        else:
            flat = [
                value
                for index, body in enumerate(resources)
                for row in by_closures(index, body)
                for value in (*row, index)
            ]
        width = len(self.columns)
        columns = {column.name: flat[number :: width + 1] for number, column in enumerate(self.columns)}
        row_resource = flat[width :: width + 1]
        return RunResult(columns, row_resource, failures, self.columns)


def load_view(source: Path | str | dict[str, Any], *, release: str = "R4") -> CompiledView:
    """Loads a ViewDefinition, checks it and compiles it.

    Args:
        source: a file, or the decoded JSON.
        release: R4 (also for R4B) or R5.

    Raises:
        StudyFileError: with the view's name and the place of the mistake.
    """
    where = "view"
    if isinstance(source, dict):
        definition: Any = source
    else:
        where = f"view {Path(source).name}"
        try:
            definition = _DECODER.decode(Path(source).read_bytes())
        except (OSError, *UNDECODABLE) as error:
            raise StudyFileError(
                f"it cannot be read as JSON ({type(error).__name__})", where=where
            ) from error
    if not isinstance(definition, dict):
        raise StudyFileError("a ViewDefinition is a JSON object", where=where)
    if isinstance(definition.get("name"), str):
        where = f"view {definition['name']}"
    try:
        return CompiledView(definition, release)
    except _ViewMistakeError as error:
        raise StudyFileError(str(error), where=where) from error
