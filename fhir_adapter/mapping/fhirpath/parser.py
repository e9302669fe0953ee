"""A parser of the FHIRPath subset that SQL on FHIR v2 views use (FHIRPath 2.0, section 'Grammar').

The grammar covers paths, indexers, function calls, literals, `%constants`, arithmetic, comparison, equality
and boolean operators. What it does not cover raises `FhirPathError`; the caller decides whether another engine
can evaluate it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

__all__ = [
    "Binary",
    "Call",
    "Constant",
    "FhirPathError",
    "Index",
    "Literal",
    "Member",
    "Negate",
    "Node",
    "This",
    "TooDeepError",
    "parse",
]


#: Steps or operators, one inside the other, that an expression may have; `or` of a hundred codes is within.
MAX_DEPTH = 120


class FhirPathError(Exception):
    """An expression that cannot be parsed, or that does not fit the elements; the text says where and why."""


class TooDeepError(FhirPathError):
    """An expression that is nested too deeply for any engine here."""


@dataclass(frozen=True)
class This:
    """`$this`, and the implicit start of a path."""


@dataclass(frozen=True)
class Member:
    """`of.name`."""

    of: Node
    name: str


@dataclass(frozen=True)
class Index:
    """`of[index]`."""

    of: Node
    index: Node


@dataclass(frozen=True)
class Call:
    """`of.name(arguments)`."""

    of: Node
    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True)
class Literal:
    """A string, number, boolean or date; `type` is its FHIR primitive type."""

    value: str | int | bool | Decimal
    type: str


@dataclass(frozen=True)
class Constant:
    """`%name`."""

    name: str


@dataclass(frozen=True)
class Binary:
    """`left operator right`."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Negate:
    """`-of`."""

    of: Node


Node = This | Member | Index | Call | Literal | Constant | Binary | Negate

_TOKEN = re.compile(
    r"""\s+
    | (?P<date>@T?\d[\dT:.+\-]*Z?)
    | (?P<number>\d+(?:\.\d+)?)
    | (?P<string>'(?:\\.|[^'\\])*')
    | (?P<quoted>`(?:\\.|[^`\\])*`)
    | (?P<constant>%[A-Za-z_]\w*|%`[^`]+`)
    | (?P<name>\$?[A-Za-z_]\w*)
    | (?P<operator><=|>=|!=|[=<>+\-*/&|~.,()\[\]])
    """,
    re.VERBOSE,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f"}
#: Binding power of the binary operators (FHIRPath 2.0, section 'Operator Precedence').
_POWER = {
    "or": 1,
    "and": 2,
    "=": 4,
    "!=": 4,
    "<": 5,
    "<=": 5,
    ">": 5,
    ">=": 5,
    "+": 7,
    "-": 7,
    "*": 8,
    "/": 8,
}


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise FhirPathError(f"not FHIRPath at character {place + 1}")
        place = match.end()
        if match.lastgroup is not None:
            yield match.lastgroup, match.group()


def _unescape(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        found = match.group(1)
        return chr(int(found[1:], 16)) if found.startswith("u") else _ESCAPES.get(found, found)

    return re.sub(r"\\(u[0-9a-fA-F]{4}|.)", one, text)


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._place = 0

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._place] if self._place < len(self._tokens) else ("end", "")

    def _take(self, expected: str | None = None) -> tuple[str, str]:
        kind, text = self._peek()
        if kind == "end" or (expected is not None and text != expected):
            raise FhirPathError(
                f"{expected or 'an expression'} is missing" + (f" before {text}" if text else " at the end")
            )
        self._place += 1
        return kind, text

    def whole(self) -> Node:
        node = self.expression(0)
        kind, text = self._peek()
        if kind != "end":
            raise FhirPathError(f"unexpected {text}")
        return node

    def expression(self, least: int) -> Node:
        left = self._unary()
        while True:
            _, text = self._peek()
            power = _POWER.get(text, 0)
            if power <= least:
                return left
            self._take()
            left = Binary(text, left, self.expression(power))

    def _unary(self) -> Node:
        if self._peek()[1] == "-":
            self._take()
            return Negate(self._unary())
        node = self._term()
        while self._peek()[1] in {".", "["}:
            _, text = self._take()
            if text == ".":
                node = self._invocation(node)
            else:
                node = Index(node, self.expression(0))
                self._take("]")
        return node

    def _term(self) -> Node:
        kind, text = self._peek()
        if kind == "string":
            self._take()
            return Literal(_unescape(text[1:-1]), "string")
        if kind == "number":
            self._take()
            return Literal(Decimal(text), "decimal") if "." in text else Literal(int(text), "integer")
        if kind == "date":
            self._take()
            stripped = text[1:]
            return Literal(
                stripped.lstrip("T"),
                "time" if stripped.startswith("T") else "dateTime" if "T" in stripped else "date",
            )
        if kind == "constant":
            self._take()
            return Constant(text[1:].strip("`"))
        if text == "(":
            self._take()
            node = self.expression(0)
            self._take(")")
            return node
        if text in {"true", "false"}:
            self._take()
            return Literal(text == "true", "boolean")
        if text == "$this":
            self._take()
            return This()
        return self._invocation(This())

    def _invocation(self, of: Node) -> Node:
        kind, text = self._take()
        if kind not in {"name", "quoted"} or text.startswith("$"):
            raise FhirPathError(f"a name is missing before {text}")
        name = text.strip("`")
        if self._peek()[1] != "(":
            return Member(of, name)
        self._take("(")
        arguments: list[Node] = []
        while self._peek()[1] != ")":
            arguments.append(self.expression(0))
            if self._peek()[1] != ")":
                self._take(",")
        self._take(")")
        return Call(of, name, tuple(arguments))


def parse(text: str) -> Node:
    """Parses an expression.

    Raises:
        FhirPathError: it is not FHIRPath, or outside the subset.
        TooDeepError: it is nested too deeply.
    """
    try:
        tree = _Parser(text).whole()
    except RecursionError:
        raise TooDeepError("the expression is nested too deeply") from None
    # Expressions are walked by recursion, when they are compiled and when they are run.
    deepest, stack = 0, [(tree, 1)]
    while stack:
        node, depth = stack.pop()
        deepest = max(deepest, depth)
        below = [
            item
            for value in vars(node).values()
            for item in (value if isinstance(value, tuple) else (value,))
        ]
        stack += [(item, depth + 1) for item in below if isinstance(item, Node)]
    if deepest > MAX_DEPTH:
        raise TooDeepError(f"the expression is deeper than {MAX_DEPTH} steps")
    return tree
