"""YAML files that people write: read with line numbers, so that a mistake is named with its line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from fhir_adapter.errors import AdapterError

__all__ = ["Open", "line_of", "open_questions", "read_yaml"]

_MARK = re.compile(r"(?:^|\s)#\s*DECIDE:\s*(.+?)\s*$")


class Open(NamedTuple):
    """A question that a person still has to answer: its line (1-based), and the words after the mark."""

    line: int
    question: str


def open_questions(raw: bytes) -> list[Open]:
    """The marks `# DECIDE: …` of a file: what stands on such a line is valid, and nobody's decision yet.

    Args:
        raw: the bytes of a file that `read_yaml` could read.
    """
    lines = raw.decode("utf-8", "replace").splitlines()
    return [Open(number, found[1]) for number, line in enumerate(lines, 1) if (found := _MARK.search(line))]


def read_yaml(path: Path, error: type[AdapterError], what: str) -> tuple[Any, bytes]:
    """Reads a YAML file.

    Args:
        path: the file.
        error: the class of error that this kind of file raises.
        what: what the file is, for the message: `the study file`.

    Returns:
        The tree, which knows its lines, and the bytes of the file.

    Raises:
        AdapterError: of the given class, for a file that cannot be read or is not a YAML mapping.
    """
    try:
        raw = path.read_bytes()
    except OSError as problem:
        raise error(f"{what} cannot be read ({problem.strerror})", where=path.name) from problem
    try:
        tree = YAML(typ="rt").load(raw)
    except (YAMLError, UnicodeDecodeError) as problem:
        mark = getattr(problem, "problem_mark", None)
        place = f"{path.name}:{mark.line + 1}" if mark else path.name
        raise error(f"not YAML ({getattr(problem, 'problem', None) or 'syntax'})", where=place) from problem
    if not isinstance(tree, dict):
        raise error(f"{what} is a mapping of settings", where=f"{path.name}:1")
    return tree, raw


def line_of(tree: Any, path: tuple[int | str, ...]) -> int:
    """Line (1-based) of the deepest part of `path` that stands in the file; 1 if none does."""
    line, node = 1, tree
    for key in path:
        if isinstance(node, CommentedMap) and key in node:
            line = node.lc.key(key)[0] + 1
        elif isinstance(node, CommentedSeq) and isinstance(key, int) and key < len(node):
            line = node.lc.item(key)[0] + 1
        else:
            continue  # a union's tag of the model, not a key of the file
        node = node[key]
    return line
