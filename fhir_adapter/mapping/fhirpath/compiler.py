"""Expressions compiled to Python closures over decoded JSON, with the static type of what they give.

A closure takes a list of nodes and an environment (constants, `%rowIndex`) and returns a list of values. What lies
outside the subset is given to fhirpathpy, node by node, which is correct and much slower; `Compiled.native` tells.
"""

from __future__ import annotations

import contextlib
import importlib
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import fhirpathpy
from fhirpathpy.engine.invocations import invocation_registry
from fhirpathpy.models import models

from fhir_adapter.mapping.fhirpath.boundaries import boundary
from fhir_adapter.mapping.fhirpath.elements import Choice, UnknownElementError, elements, family
from fhir_adapter.mapping.fhirpath.parser import (
    Binary,
    Call,
    Constant,
    FhirPathError,
    Index,
    Literal,
    Member,
    Negate,
    Node,
    This,
    TooDeepError,
    parse,
)
from fhir_adapter.mapping.fhirpath.temporal import compare

__all__ = ["Compiled", "Scope", "ShapeError", "compile_path", "is_id", "reference_key"]

_GRAMMAR: Any = importlib.import_module("fhirpathpy.parser")  # its names come by a star import of ANTLR's
Nodes = list[Any]
Function = Callable[[Nodes, Mapping[str, Any]], Nodes]


class ShapeError(Exception):
    """A resource whose JSON has another shape than FHIR says.

    `path` is where; `code` is its kind: json, shape, type, no-id, depth or several.
    """

    def __init__(self, path: str, reason: str, code: str = "shape") -> None:
        self.path = path
        self.reason = reason
        self.code = code
        super().__init__(reason)


@dataclass(frozen=True)
class Scope:
    """Where an expression stands: the type of its context, the release, and the types of the constants.

    `path` is the JSON path of the context, for error messages. `touched` gathers the keys of the resource that
    expressions look at, `*` for all, so that the others need not be decoded.
    """

    type: str | None
    release: str = "R4"
    constants: Mapping[str, str] | None = None
    path: str = "$"
    touched: set[str] = field(default_factory=set, compare=False)


@dataclass(frozen=True)
class Compiled:
    """A compiled expression.

    Attributes:
        run: nodes and environment to values.
        type: FHIR type (or backbone path) of the values, None if it is not known.
        path: JSON path of the values, as far as it is one.
        native: whether fhirpathpy is not needed.
    """

    run: Function
    type: str | None
    path: str
    native: bool = True


class _UnsupportedError(Exception):
    """Valid FHIRPath that the subset does not cover."""


def _step(key: str, several: bool | None, path: str) -> Function:
    """A closure for one element; `path` is its JSON path, `several` whether a list belongs there (None: not known)."""
    parent = path.rpartition(".")[0]

    def run(nodes: Nodes, env: Mapping[str, Any]) -> Nodes:
        found: Nodes = []
        for node in nodes:
            if type(node) is not dict:
                raise ShapeError(parent, "an object was expected here")
            value = node.get(key)
            if value is None:
                continue
            if type(value) is list:
                if several is False:
                    raise ShapeError(path, "a single value was expected here, there is a list")
                found += [item for item in value if item is not None]
            elif several:
                raise ShapeError(path, "a list was expected here")
            else:
                found.append(value)
        return found

    return run


class _Builder:
    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.tables = elements(scope.release)

    def _touch(self, base: Compiled, *keys: str) -> None:
        if base.path == "$":
            self.scope.touched.update(keys)

    def build(self, node: Node, of: Compiled) -> Compiled | Choice:
        if isinstance(node, This):
            return of
        if isinstance(node, Literal):
            value = node.value
            return Compiled(lambda nodes, env: [value], node.type, of.path)
        if isinstance(node, Constant):
            return self._constant(node.name, of)
        if isinstance(node, Member):
            return self._member(node, of)
        if isinstance(node, Index):
            return self._index(node, of)
        if isinstance(node, Negate):
            inner = self.value(node.of, of)
            if family(inner.type) not in {None, "number"}:
                raise FhirPathError(f"{inner.type} has no negative")
            run = inner.run
            return Compiled(
                lambda nodes, env: [-_number(item) for item in run(nodes, env)], inner.type, of.path
            )
        if isinstance(node, Binary):
            return self._binary(node, of)
        return self._call(node, of)

    def value(self, node: Node, of: Compiled) -> Compiled:
        """An expression that is not left as a bare choice: `value` alone takes whichever type is there."""
        built = self.build(node, of)
        if isinstance(built, Choice):
            base = self.value(node.of, of) if isinstance(node, Member) else of
            parts = [_step(key, False, f"{base.path}.{key}") for _, key in built.keys]
            self._touch(base, *(key for _, key in built.keys))
            start = base.run
            return Compiled(
                lambda nodes, env: [item for part in parts for item in part(start(nodes, env), env)],
                None,
                f"{base.path}.{built.name}[x]",
            )
        return built

    def _constant(self, name: str, of: Compiled) -> Compiled:
        if name == "rowIndex":
            return Compiled(lambda nodes, env: [env["rowIndex"]], "integer", of.path)
        types = self.scope.constants or {}
        if name not in types:
            raise FhirPathError(f"there is no constant %{name}")
        return Compiled(lambda nodes, env: [env[name]], types[name], of.path)

    def _member(self, node: Member, of: Compiled) -> Compiled | Choice:
        base = self.value(node.of, of)
        self._touch(base, node.name)
        if base.type is None:
            return Compiled(
                _then(base.run, _step(node.name, None, f"{base.path}.{node.name}")),
                None,
                f"{base.path}.{node.name}",
            )
        if isinstance(node.of, This) and node.name == base.type:
            return base  # `Patient.name` in a view of Patient
        if family(base.type) is not None:
            raise UnknownElementError(base.type, node.name)
        found = self.tables.child(base.type, node.name)
        if isinstance(found, Choice):
            return found
        return _extend(base, node.name, found, self.tables.repeats(base.type, node.name))

    def _index(self, node: Index, of: Compiled) -> Compiled:
        base, index = self.value(node.of, of), self.value(node.index, of)
        run, at = base.run, index.run

        def pick(nodes: Nodes, env: Mapping[str, Any]) -> Nodes:
            places = at(nodes, env)
            place = places[0] if places else -1
            found = run(nodes, env)
            return [found[place]] if isinstance(place, int) and 0 <= place < len(found) else []

        return Compiled(pick, base.type, base.path)

    def _binary(self, node: Binary, of: Compiled) -> Compiled:
        left, right = self.value(node.left, of), self.value(node.right, of)
        one, two, sign = left.run, right.run, node.operator
        if sign in {"and", "or"}:
            stop = sign == "or"

            def logic(nodes: Nodes, env: Mapping[str, Any]) -> Nodes:
                first = _truth(one(nodes, env), of.path)
                if first is stop:
                    return [stop]
                second = _truth(two(nodes, env), of.path)
                if second is stop:
                    return [stop]
                return [] if first is None or second is None else [not stop]

            return Compiled(logic, "boolean", of.path)
        kinds = {family(left.type), family(right.type)} - {None}
        if len(kinds) > 1 or (
            kinds == {"date"} and "time" in {left.type, right.type} and left.type != right.type
        ):
            hint = "; a date is written @2024-01-31" if kinds == {"date", "text"} else ""
            raise FhirPathError(f"{left.type} and {right.type} cannot be joined by {sign}{hint}")
        at = left.path if isinstance(node.right, (Literal, Constant)) else right.path
        if kinds == {"date"}:
            if sign in _ARITHMETIC:
                raise _UnsupportedError(sign)  # a date and a quantity of time
            return self._temporal(sign, left, right, at, of)
        if sign in {"=", "!="}:
            fits_left, fits_right = _FITS[family(left.type)], _FITS[family(right.type)]

            def equal(nodes: Nodes, env: Mapping[str, Any]) -> Nodes:
                first, second = one(nodes, env), two(nodes, env)
                if not first or not second:
                    return []
                if not (all(map(fits_left, first)) and all(map(fits_right, second))):
                    raise ShapeError(at, "values of another kind than FHIR says are compared here")
                return [(first == second) is (sign == "=")]

            return Compiled(equal, "boolean", of.path)
        if sign in _COMPARE:
            compare = _COMPARE[sign]

            def order(nodes: Nodes, env: Mapping[str, Any]) -> Nodes:
                first, second = _single(one(nodes, env), of.path), _single(two(nodes, env), of.path)
                if first is None or second is None:
                    return []
                try:
                    return [compare(first, second)]
                except TypeError:
                    raise ShapeError(at, "values that have no order are compared here") from None

            return Compiled(order, "boolean", of.path)
        calculate = _ARITHMETIC[sign]

        def arithmetic(nodes: Nodes, env: Mapping[str, Any]) -> Nodes:
            first, second = _single(one(nodes, env), of.path), _single(two(nodes, env), of.path)
            if first is None or second is None:
                return []
            if sign == "+" and isinstance(first, str) and isinstance(second, str):
                return [first + second]
            try:
                return [calculate(_number(first), _number(second))]
            except ArithmeticError:  # nothing, as FHIRPath says for division by zero and overflow
                return []

        return Compiled(arithmetic, "decimal" if "number" in kinds else left.type, of.path)

    @staticmethod
    def _temporal(sign: str, left: Compiled, right: Compiled, at: str, of: Compiled) -> Compiled:
        """Dates and times, which have no order and no equality where their precision does not tell."""
        one, two = left.run, right.run
        kind = "time" if "time" in {left.type, right.type} else None

        def order(first: Any, second: Any) -> int | None:
            if not isinstance(first, str) or not isinstance(second, str):
                raise ShapeError(at, "values of another kind than FHIR says are compared here")
            try:
                return compare(first, second, kind)
            except (ValueError, OverflowError):
                raise ShapeError(at, "a date or time was expected here") from None

        def equal(nodes: Nodes, env: Mapping[str, Any]) -> Nodes:
            first, second = one(nodes, env), two(nodes, env)
            if not first or not second:
                return []
            found = [order(*pair) for pair in zip(first, second, strict=False)]
            if len(first) != len(second) or any(found):
                return [sign == "!="]
            return [] if None in found else [sign == "="]

        def ordered(nodes: Nodes, env: Mapping[str, Any]) -> Nodes:
            first, second = _single(one(nodes, env), of.path), _single(two(nodes, env), of.path)
            if first is None or second is None:
                return []
            found = order(first, second)
            return [] if found is None else [_COMPARE[sign](found, 0)]

        return Compiled(equal if sign in {"=", "!="} else ordered, "boolean", of.path)

    def _call(self, node: Call, of: Compiled) -> Compiled:
        name, arguments = node.name, node.arguments
        if name == "ofType":
            if len(arguments) != 1:
                raise FhirPathError("ofType() takes the name of a type")
            return self._of_type(node, of)
        base = self.value(node.of, of)
        run = base.run
        if name in _ARGUMENTS and len(arguments) not in _ARGUMENTS[name]:
            raise FhirPathError(f"{name}() does not take {len(arguments)} arguments")
        if name == "where":
            criterion = self.value(arguments[0], _start(base))
            test = criterion.run
            if criterion.type is not None and family(criterion.type) != "boolean":
                raise FhirPathError("where() needs a condition")
            return Compiled(
                lambda nodes, env: [item for item in run(nodes, env) if _truth(test([item], env), base.path)],
                base.type,
                base.path,
            )
        if name in {"exists", "empty"}:
            wanted = name == "exists"
            if arguments:
                return self._call(Call(Call(node.of, "where", arguments), "exists", ()), of)
            return Compiled(lambda nodes, env: [bool(run(nodes, env)) is wanted], "boolean", of.path)
        if name == "not":

            def negate(nodes: Nodes, env: Mapping[str, Any]) -> Nodes:
                truth = _truth(run(nodes, env), of.path)
                return [] if truth is None else [not truth]

            return Compiled(negate, "boolean", of.path)
        if name == "first":
            return Compiled(lambda nodes, env: run(nodes, env)[:1], base.type, base.path)
        if name == "extension":
            told = self.value(arguments[0], of)
            if family(told.type) != "text":
                raise FhirPathError("extension() takes a url")
            url = told.run
            self._touch(base, "extension")
            step = _step("extension", True, f"{base.path}.extension")
            return Compiled(
                lambda nodes, env: _extensions(step(run(nodes, env), env), url(nodes, env), base.path),
                "Extension",
                f"{base.path}.extension",
            )
        if name == "join":
            between = self.value(arguments[0], of).run if arguments else lambda nodes, env: [""]

            def join(nodes: Nodes, env: Mapping[str, Any]) -> Nodes:
                found = run(nodes, env)
                if not all(isinstance(item, str) for item in found):
                    raise ShapeError(base.path, "a text was expected here")
                separator = between(nodes, env)
                return [str(separator[0]).join(found)] if separator else []

            return Compiled(join, "string", of.path)
        if name in {"lowBoundary", "highBoundary"}:
            if family(base.type) in {"text", "boolean"}:
                raise FhirPathError(f"{base.type} has no boundaries")
            high, type_ = name == "highBoundary", base.type
            return Compiled(
                lambda nodes, env: [
                    edge for item in run(nodes, env) if (edge := boundary(item, type_, high=high)) is not None
                ],
                type_,
                base.path,
            )
        if name == "getResourceKey":
            if base.type is not None and not self.tables.resource(base.type):
                raise FhirPathError(f"{base.type} is not a resource, so it has no key")
            self._touch(base, "id")
            return Compiled(
                lambda nodes, env: [_resource_key(item) for item in run(nodes, env)], "string", of.path
            )
        if name == "getReferenceKey":
            if base.type not in {None, "Reference"}:
                raise FhirPathError(f"{base.type} is not a Reference, so it refers to nothing")
            wanted_type = _type_name(arguments[0]) if arguments else None
            if wanted_type is not None and not self.tables.resource(wanted_type):
                raise FhirPathError(f"there is no resource type {wanted_type}")
            return Compiled(
                lambda nodes, env: [
                    key
                    for item in run(nodes, env)
                    if (key := _reference_key(item, wanted_type, base.path)) is not None
                ],
                "string",
                base.path,
            )
        if name not in invocation_registry:
            raise FhirPathError(f"there is no function {name}()")
        # What can be checked is checked, though fhirpathpy evaluates it.
        inner = _start(base) if name in _PER_ITEM else of
        for argument in arguments if name not in _WITH_TYPES else ():
            with contextlib.suppress(_UnsupportedError):
                self.value(argument, inner)
        raise _UnsupportedError(name)

    def _of_type(self, node: Call, of: Compiled) -> Compiled:
        type_ = _type_name(node.arguments[0])
        built = self.build(node.of, of)
        if isinstance(built, Choice):
            key = built.key(type_)
            base = self.value(node.of.of, of) if isinstance(node.of, Member) else of
            if key is None:
                raise FhirPathError(f"{base.type}.{built.name}[x] cannot be a {type_}")
            self._touch(base, key)
            return _extend(base, key, type_, False)
        if built.type is not None and built.type == type_:
            return built
        if built.type in {None, "Resource"} and self.tables.known(type_):
            run = built.run
            return Compiled(
                lambda nodes, env: [
                    item for item in run(nodes, env) if _is_resource(item, type_, built.path)
                ],
                type_,
                built.path,
            )
        raise FhirPathError(f"{built.type} is never a {type_}")


#: How many arguments the compiled functions take.
_ARGUMENTS = {
    "where": (1,), "exists": (0, 1), "empty": (0,), "not": (0,), "first": (0,), "extension": (1,),
    "join": (0, 1),
    "lowBoundary": (0,), "highBoundary": (0,), "getResourceKey": (0,), "getReferenceKey": (0, 1),
}  # fmt: skip
#: Functions of fhirpathpy whose arguments are evaluated for each item, and those that take a type's name.
_PER_ITEM = {"select", "all", "repeat", "aggregate", "iif", "trace"}
_WITH_TYPES = {"is", "as", "aggregate"}
_FITS: dict[str | None, Callable[[Any], bool]] = {
    None: lambda value: True,
    "boolean": lambda value: type(value) is bool,
    "number": lambda value: type(value) in {int, Decimal},
    "text": lambda value: type(value) is str,
    "date": lambda value: type(value) is str,
}
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": lambda one, two: Decimal(one) / Decimal(two),
}


def _start(base: Compiled) -> Compiled:
    return Compiled(_identity, base.type, base.path)


def _identity(nodes: Nodes, env: Mapping[str, Any]) -> Nodes:
    return nodes


def _then(first: Function, second: Function) -> Function:
    if first is _identity:
        return second
    return lambda nodes, env: second(first(nodes, env), env)


def _extend(base: Compiled, key: str, type_: str, several: bool | None) -> Compiled:
    path = f"{base.path}.{key}"
    return Compiled(_then(base.run, _step(key, several, path)), type_, path)


def _type_name(node: Node) -> str:
    while isinstance(node, Member):  # FHIR.Quantity
        return node.name
    raise FhirPathError("the name of a type is missing")


def _single(found: Nodes, path: str) -> Any:
    if len(found) > 1:
        raise ShapeError(path, "one value was expected here, there are several", "several")
    return found[0] if found else None


def _truth(found: Nodes, path: str) -> bool | None:
    """The truth of a singleton; a value that is not a boolean is true (FHIRPath, singleton evaluation)."""
    value = _single(found, path)
    return value if value is None or isinstance(value, bool) else True


def _number(value: Any) -> int | Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise ShapeError("$", "a number was expected in a calculation")
    return value


def _is_resource(item: Any, type_: str, path: str) -> bool:
    if not isinstance(item, dict):
        raise ShapeError(path, "an object was expected here")
    return item.get("resourceType") == type_


def _extensions(found: Nodes, url: Nodes, path: str) -> Nodes:
    wanted = url[0] if url else None
    chosen = []
    for item in found:
        if not isinstance(item, dict) or not isinstance(item.get("url"), str):
            raise ShapeError(f"{path}.extension", "an extension without a url")
        if item["url"] == wanted:
            chosen.append(item)
    return chosen


_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_REFERENCE = re.compile(
    r"(?:https?://[^\s#?]+/)?([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?"
)


def is_id(text: str) -> bool:
    """Whether a text is an id of FHIR (R4, datatypes, `id`)."""
    return _ID.fullmatch(text) is not None


def reference_key(text: str, type_: str | None) -> str | None:
    """`Type/id` of a literal reference, None for another form or another type than `type_`."""
    match = _REFERENCE.fullmatch(text)
    if match is None or (type_ is not None and match[1] != type_):
        return None
    return f"{match[1]}/{match[2]}"


def _resource_key(item: Any) -> str:
    id_ = item.get("id") if isinstance(item, dict) else None
    type_ = item.get("resourceType") if isinstance(item, dict) else None
    if not isinstance(type_, str) or not isinstance(id_, str) or not _ID.fullmatch(id_):
        raise ShapeError("$.id", "the resource has no id", "no-id")
    return f"{type_}/{id_}"


def _reference_key(item: Any, type_: str | None, path: str) -> str | None:
    if not isinstance(item, dict):
        raise ShapeError(path, "an object was expected here")
    text = item.get("reference")
    if text is None:
        return None
    if not isinstance(text, str):
        raise ShapeError(f"{path}.reference", "a text was expected here")
    return reference_key(text, type_)


def _is_fhirpath(text: str) -> bool:
    """Whether the grammar of FHIRPath takes the whole text; fhirpathpy's own parser passes over mistakes."""

    def refuse(error: Exception) -> None:
        raise FhirPathError("not FHIRPath") from error

    lexer = _GRAMMAR.FHIRPathLexer(_GRAMMAR.InputStream(text))
    lexer.removeErrorListeners()
    lexer.recover = refuse
    tokens = _GRAMMAR.CommonTokenStream(lexer)
    parser = _GRAMMAR.FHIRPathParser(tokens)
    parser.removeErrorListeners()
    try:
        parser.expression()
    except FhirPathError:
        return False
    return not parser.getNumberOfSyntaxErrors() and tokens.LA(1) == -1


def _functions(tree: Any) -> Iterator[str]:
    """Names of the functions in a tree of fhirpathpy."""
    for node in tree.get("children", ()):
        if node.get("type") == "Functn":
            yield node["children"][0]["text"]
        yield from _functions(node)


def _by_fhirpathpy(text: str, scope: Scope) -> Compiled:
    """An expression of the whole language, evaluated by fhirpathpy for each node."""
    if scope.path == "$":
        scope.touched.add("*")
    model = models["r5" if scope.release == "R5" else "r4"]
    try:
        expression: Any = (
            {"base": scope.type, "expression": text} if scope.type and "." in scope.type else text
        )
        unknown = sorted(set(_functions(_GRAMMAR.parse(text))) - set(invocation_registry))
        evaluate = fhirpathpy.compile(expression, model)
    except Exception as error:
        raise FhirPathError(f"not FHIRPath ({type(error).__name__})") from error
    if unknown:
        raise FhirPathError(f"there is no function {unknown[0]}() outside the compiled subset")

    def run(nodes: Nodes, env: Mapping[str, Any]) -> Nodes:
        found: Nodes = []
        for node in nodes:
            try:
                found += evaluate(node, dict(env))
            except Exception as error:
                raise ShapeError(
                    scope.path, f"the expression cannot be evaluated ({type(error).__name__})"
                ) from error
        return found

    return Compiled(run, None, scope.path, native=False)


def compile_path(text: str, scope: Scope) -> Compiled:
    """Compiles an expression for a context.

    Raises:
        FhirPathError: it is not FHIRPath, names an element or constant that does not exist, or joins types
            that do not fit.
    """
    if not isinstance(text, str) or not text.strip():
        raise FhirPathError("a path is missing")
    try:
        tree = parse(text)
    except TooDeepError:
        raise
    except FhirPathError as error:
        if not _is_fhirpath(text):
            raise error from None
        return _by_fhirpathpy(text, scope)
    start = Compiled(_identity, scope.type, scope.path)
    try:
        built = _Builder(scope).value(tree, start)
    except _UnsupportedError:
        return _by_fhirpathpy(text, scope)
    if built.path == "$" and built.type == scope.type:
        scope.touched.add("*")  # the resource itself is a value
    return built
