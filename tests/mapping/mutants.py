"""Spoilt resources, by a seed: what a hospital's exports, and whoever means ill, put into a batch."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Spoiler", "deep", "renamed"]

Path = tuple[Any, ...]

#: What the ids of the six patients' own resources begin with; the study and the drug are everybody's.
_THEIRS = re.compile("six-(?=cr|pr|sd|pd|ne|ex)")
DEPTHS = (10, 100, 300, 450, 600, 1100, 20_000)

#: Values in the place of others; none of them is a reference to somebody else's resource.
JUNK: tuple[Any, ...] = (
    None, True, False, 0, -1, 0.1, 1e308, -1e308, 10**40, 2**63, "", " ", "x", [], {}, [None], [[]], [{}], {"a": 1},
    "2021-13-45", "2021-02-30", "0000-00-00", "9999-12-31", "2021-06-31T25:61:61Z", "20210615", "2021-6-1",
    "15/06/2021", "2021-06-15T10:00:00+99:99", "#c", "#", "urn:uuid:x", "urn:oid:1.2", "Patient/", "/", "Group/..",
    "https://", "javascript:alert(1)", "../../etc/passwd", "%s%n", "' OR 1=1 --", "<script>", "$.x", "NaN", "-0",
    "\u0000", "\u202e\u0301\u200b", "\ufeff", "\U0001f9ec" * 50, "É" * 300, "x" * 100_000, "0" * 5000,
)  # fmt: skip


def places(node: Any, path: Path = ()) -> Iterator[Path]:
    """Every place below a resource."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def deep(levels: int) -> bytes:
    """An extension in an extension in an extension, as text: nothing of Python's could hold it."""
    head = b'{"url": "http://example.org/deep", "extension": ['
    return head * levels + b'{"url": "http://example.org/deep", "valueString": "x"}' + b"]}" * levels


def renamed(resource: dict[str, Any], prefix: str) -> dict[str, Any]:
    """A copy of a resource of the six patients for others: the ids of theirs begin with `prefix`."""
    found: dict[str, Any] = json.loads(_THEIRS.sub(f"{prefix}-", json.dumps(resource)))
    return found


class Spoiler:
    """Spoils resources; the same seed spoils them in the same way.

    Args:
        seed: of the random numbers.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._ways: tuple[Callable[[dict[str, Any]], None], ...] = (
            self._replace, self._replace, self._replace, self._retype, self._delete, self._delete, self._double,
            self._swap, self._swap, self._misname, self._misname, self._lengthen, self._lengthen, self._replace,
            self._retype, self._delete, self._nest,
        )  # fmt: skip

    def spoil(self, resource: dict[str, Any]) -> bytes:
        """One to three things done to a copy of a resource, as the bytes that a source would send."""
        found = copy.deepcopy(resource)
        for _ in range(self._random.choice((1, 1, 1, 2, 3))):
            self._random.choice(self._ways)(found)
        return self._bytes(found)

    def _bytes(self, resource: dict[str, Any]) -> bytes:
        text = json.dumps(resource, ensure_ascii=self._random.random() < 0.5)
        body = text.encode("utf-8", "surrogatepass")
        if b'"@deep ' in body:
            body = re.sub(rb'"@deep (\d+)@"', lambda found: deep(int(found[1])), body)
        way = self._random.randrange(120)
        at = self._random.randrange(1, len(body))
        if way == 0:
            return body[:at]  # cut short
        if way == 1:
            return body[:at] + b"\xff\xfe" + body[at:]  # not UTF-8
        if way == 2:
            return body[:-1] + b', "id": "twice"}'
        if way == 3:
            return body.replace(b": ", b": NaN, ", 1)
        if way == 4:
            return body.replace(b'"value": ', b'"value": 1e400, "was": ')
        if way == 5:
            return body.replace(b'"value": ', b'"value": Infinity, "was": ')
        if way == 6:
            return body.replace(b'"text": "', b'"text": "\\ud800')  # half of a character
        if way == 7:
            return body + body  # two on a line
        if way == 8:
            return b"[" * 3000 + body + b"]" * 3000
        return body

    def _place(self, resource: dict[str, Any]) -> tuple[Any, Any]:
        """(the node that holds it, its key) of some place."""
        path = self._random.choice(list(places(resource)) or [("resourceType",)])
        node: Any = resource
        for key in path[:-1]:
            node = node[key]
        return node, path[-1]

    def _replace(self, resource: dict[str, Any]) -> None:
        node, key = self._place(resource)
        node[key] = copy.deepcopy(self._random.choice(JUNK))

    def _retype(self, resource: dict[str, Any]) -> None:
        node, key = self._place(resource)
        value = node[key] if isinstance(node, list) or key in node else None
        node[key] = self._random.choice(([value], {"value": value}, str(value), [value, value], 1))

    def _delete(self, resource: dict[str, Any]) -> None:
        node, key = self._place(resource)
        if isinstance(node, list) or key in node:
            del node[key]

    def _double(self, resource: dict[str, Any]) -> None:
        node, key = self._place(resource)
        if isinstance(node, list):
            node.append(copy.deepcopy(node[key]))
        elif key in node:
            node[f"{key}2"] = copy.deepcopy(node[key])

    def _swap(self, resource: dict[str, Any]) -> None:
        (node, key), (other, name) = self._place(resource), self._place(resource)
        try:
            taken = copy.deepcopy(other[name])
            node[key] = taken
        except (KeyError, IndexError):
            return

    def _misname(self, resource: dict[str, Any]) -> None:
        node, key = self._place(resource)
        if isinstance(node, dict) and key in node:
            name = self._random.choice(
                (str(key).upper(), f"_{key}", f"{key}[x]", "modifierExtension", "", "ключ")
            )
            node[name] = node.pop(key)

    def _nest(self, resource: dict[str, Any]) -> None:
        resource.setdefault("extension", [])
        if isinstance(resource["extension"], list):
            resource["extension"].append(f"@deep {self._random.choice(DEPTHS)}@")

    def _lengthen(self, resource: dict[str, Any]) -> None:
        node, key = self._place(resource)
        if isinstance(node, list) and node:
            node.extend([copy.deepcopy(node[0])] * self._random.choice((10, 100)))
        elif isinstance(node, dict) and isinstance(node.get(key), str):
            node[key] *= 200
