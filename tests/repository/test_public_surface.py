"""The public surface of the package: docstrings, `__all__`, errors."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import fhir_adapter
from fhir_adapter import errors

PACKAGE = Path(fhir_adapter.__file__).resolve().parent
TESTS = Path(__file__).resolve().parent.parent
MODULES = sorted(PACKAGE.rglob("*.py"))
TEST_MODULES = sorted(TESTS.rglob("test_*.py"))


def _name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


def _public(tree: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Public classes, functions and methods; signatures of an overloaded function do not count again."""
    for node in tree.body:
        if isinstance(
            node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ) and not node.name.startswith("_"):
            if not any(isinstance(one, ast.Name) and one.id == "overload" for one in node.decorator_list):
                yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from _public(node, f"{prefix}{node.name}.")


def _declared(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(to, ast.Name) and to.id == "__all__" for to in node.targets
        ):
            return [str(name) for name in ast.literal_eval(node.value)]
    return None


def _defined(tree: ast.Module) -> set[str]:
    """Public names that a module itself defines: classes, functions, type aliases and constants."""
    names = {name for name, _ in _public(tree) if "." not in name}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found = [one for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)]
            names |= {
                one.id for one in found if isinstance(one.ctx, ast.Store) and not one.id.startswith("_")
            }
    return names


def _imported(tree: ast.Module) -> set[str]:
    return {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom | ast.Import)
        for alias in node.names
    }


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_every_public_name_is_described(path: Path) -> None:
    """Each public module, class, function and method has a docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    silent = [] if ast.get_docstring(tree) else ["(the module)"]
    silent += [
        name
        for name, node in _public(tree)
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not ast.get_docstring(node)
    ]

    assert silent == []


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_all_is_sorted_and_holds_what_exists(path: Path) -> None:
    """`__all__` is sorted, has no name twice, and every name in it exists."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    declared = _declared(tree)
    if declared is None:
        assert not _defined(tree), "a module with public names declares them in __all__"
        return

    assert sorted(set(declared), key=_isort_order) == declared
    assert set(declared) - _defined(tree) - _imported(tree) - {"__version__"} == set()


def _isort_order(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest: the order that the linter writes."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2), name


@pytest.mark.parametrize("path", [path for path in MODULES if path.name != "__init__.py"], ids=_name)
def test_all_holds_every_public_class_and_function(path: Path) -> None:
    """A class or function without an underscore is in `__all__`: what is not meant for others says so."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = {name for name, _ in _public(tree) if "." not in name}

    assert own - set(_declared(tree) or ()) == set()


@pytest.mark.parametrize("path", TEST_MODULES, ids=lambda path: str(path.relative_to(TESTS)))
def test_every_test_says_what_it_shows(path: Path) -> None:
    """Each test function has a docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    silent = [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not ast.get_docstring(node)
    ]

    assert silent == []


def test_error_codes_are_distinct() -> None:
    """No two error classes share a code, and each has an exit status that is no success."""
    classes = [getattr(errors, name) for name in errors.__all__]

    assert len({error.code for error in classes}) == len(classes)
    assert all(0 < error.exit_status < 128 for error in classes)


def test_the_drawing_of_the_errors_is_complete() -> None:
    """The tree at the head of `errors.py` names each class with its exit status; `__all__` has them all."""
    defined = [
        one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, errors.AdapterError)
    ]
    drawn: dict[str, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        words = line.replace("├──", " ").replace("└──", " ").replace("│", " ").split()
        if len(words) > 1 and words[1].isdigit():
            drawn[words[0]] = words[1]

    assert {one.__name__: str(one.exit_status) for one in defined if one is not errors.AdapterError} == drawn
    assert sorted(one.__name__ for one in defined) == sorted(errors.__all__)
