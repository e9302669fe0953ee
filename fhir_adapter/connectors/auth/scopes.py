"""SMART scopes: which to ask for, and whether what was granted is enough (SMART App Launch 2.2, Scopes).

A server may grant less than was asked, and then answer a search with nothing instead of a refusal; so what was
granted is compared with what is needed before the first search.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

import msgspec

__all__ = ["Access", "readable", "scopes"]

# Version 2: letters of create, read, update, delete, search; version 1: read, write, *.
_SCOPE = re.compile(r"system/(\*|[A-Z][A-Za-z]*)\.(read|write|\*|c?r?u?d?s?)(\?.*)?")
_VERSION_1 = frozenset({"read", "write", "*"})


class Access(msgspec.Struct, frozen=True):
    """What a client does at the server.

    Attributes:
        read: resource types that are read and searched; empty for any.
        write: resource types that are written and deleted.
    """

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()


def _parsed(items: Iterable[str]) -> list[tuple[str, str, bool]]:
    """(type, action, restricted to a part) of the system scopes among some."""
    found = [_SCOPE.fullmatch(item) for item in items]
    return [(match[1], match[2], bool(match[3])) for match in found if match and match[2]]


def scopes(access: Access, capabilities: Collection[str], supported: Collection[str]) -> tuple[str, ...]:
    """Scopes to ask for.

    Args:
        access: what is needed.
        capabilities: `capabilities` of the server's SMART configuration.
        supported: its `scopes_supported`.

    Returns:
        `system/Type.rs` (`.cruds` for types that are written) for each type; `.read` and `.write` where the
        server states version 1 alone; `system/*…` where it states scopes, and of these only such.
    """
    stated = _parsed(supported)
    second = "permission-v2" in capabilities or any(action not in _VERSION_1 for _, action, _ in stated)
    first = "permission-v1" in capabilities or any(action in _VERSION_1 for _, action, _ in stated)
    old = first and not second
    wildcard = bool(stated) and all(type_ == "*" for type_, _, _ in stated)

    def named(types: Collection[str]) -> list[str]:
        return ["*"] if wildcard and types else sorted(set(types))

    read = named(access.read or (() if access.write else ("*",)))
    write = named(access.write)
    if old:
        return tuple(
            [f"system/{type_}.read" for type_ in sorted({*read, *write})]
            + [f"system/{type_}.write" for type_ in write]
        )
    return tuple(
        [f"system/{type_}.rs" for type_ in read if type_ not in write]
        + [f"system/{type_}.cruds" for type_ in write]
    )


def readable(granted: Collection[str], type_: str) -> bool:
    """Whether granted scopes allow reading and searching all resources of a type.

    A scope that is restricted to a part (`?category=…`) is not enough. Where none of them is a system scope
    nothing can be said, and the answer is True.
    """
    stated = _parsed(granted)
    if not stated:
        return True
    return any(
        name in {"*", type_}
        and not restricted
        and (action in {"read", "*"} or ("r" in action and "s" in action and action != "write"))
        for name, action, restricted in stated
    )
