"""The documentation: generated pages are fresh, each command and error is described, links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import typer

from fhir_adapter import errors
from fhir_adapter.cli import app

REPOSITORY = Path(__file__).resolve().parent.parent.parent
DOCS = REPOSITORY / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *REPOSITORY.glob("*.md")])
_LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.fixture(scope="module")
def generators() -> ModuleType:
    """The script that writes the generated pages."""
    specification = importlib.util.spec_from_file_location("build_docs", REPOSITORY / "scripts/build_docs.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name",
    ["commands.md", "errors.md", "site-file.md", "site.schema.json", "study-file.md", "study.schema.json"],
)
def test_generated_pages_are_fresh(name: str, generators: ModuleType) -> None:
    """`make docs` would change nothing."""
    assert generators.generated_pages()[name] == (DOCS / name).read_text(encoding="utf-8"), "run `make docs`"


def test_every_command_is_described(generators: ModuleType) -> None:
    """Each verb of the command line says what it does, and so does each of its options."""
    leaves = dict(generators.leaves(typer.main.get_command(app), "fhir-adapter"))
    page = (DOCS / "commands.md").read_text(encoding="utf-8")

    assert [path for path, command in leaves.items() if not command.help] == []
    assert [path for path in leaves if f"## `{path}`" not in page] == []
    silent = [
        f"{path} {one.name}"
        for path, command in leaves.items()
        for one in command.params
        if not getattr(one, "hidden", False) and not one.help
    ]
    assert silent == []


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name != "AdapterError"])
def test_every_error_is_in_the_catalogue(name: str) -> None:
    """Each error class stands in docs/errors.md with its code and its exit status."""
    error = getattr(errors, name)
    page = (DOCS / "errors.md").read_text(encoding="utf-8")

    assert f"| `{error.code}` | `{name}` | {error.exit_status} |" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    """Each relative link of a page leads to a file of the repository."""
    links = _LINK.findall(page.read_text(encoding="utf-8"))
    relative = [link for link in links if not link.startswith(("http://", "https://", "mailto:"))]

    assert [link for link in relative if not (page.parent / link).exists()] == []


def test_every_page_is_reachable() -> None:
    """docs/index.md links every page of docs/."""
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    linked = set(_LINK.findall(index))

    assert {page.name for page in DOCS.iterdir() if page.name != "index.md"} - linked == set()
