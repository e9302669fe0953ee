"""`fhir-adapter study new`: a commented study file to start from, wired to its JSON schema, and a site file."""

from __future__ import annotations

import datetime as dt
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import jinja2
import msgspec
import typer

from fhir_adapter import site as site_file
from fhir_adapter import study as study_file
from fhir_adapter.assets import asset
from fhir_adapter.cli.options import Json
from fhir_adapter.errors import UsageError
from fhir_adapter.yamlfile import open_questions

__all__ = ["new"]

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_ARMS = 8


def _drugs() -> str:
    """The targets of the shipped concept map `drug`, as comment lines."""
    tree = msgspec.json.decode(asset("mappings", "concepts", "drug.json").read_bytes())
    known = {
        target["code"]
        for group in tree["group"]
        for element in group["element"]
        for target in element.get("target", [])
        if "code" in target
    }
    return textwrap.fill(", ".join(sorted(known)), 110, initial_indent="  #   ", subsequent_indent="  #   ")


def _filled(template: str, /, **values: Any) -> str:
    environment = jinja2.Environment(  # noqa: S701 - YAML, not HTML; the one value from outside is a checked name
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(asset("templates", "study", template).read_text("utf-8")).render(values)


def _schema(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _is_ours(path: Path, title: str) -> bool:
    """Whether a file is a schema that we wrote, perhaps of an earlier release."""
    try:
        return bool(msgspec.json.decode(path.read_bytes())["title"] == title)
    except (msgspec.DecodeError, KeyError, TypeError, OSError):
        return False


def _write(path: Path, text: str) -> None:
    """Writes a file that is not there yet.

    Raises:
        UsageError: it is there, or its folder cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as handle:
            handle.write(text)
    except FileExistsError:
        raise UsageError("there is such a file; nothing is overwritten", where=str(path)) from None
    except OSError as error:
        raise UsageError(f"the file cannot be written ({error.strerror})", where=str(path)) from error


def _beside(folder: Path) -> Iterator[tuple[str, Path]]:
    """Schemas and site file beside the study file: ("written" or "kept", path) of each."""
    for name, schema in (
        ("study.schema.json", study_file.json_schema()),
        ("site.schema.json", site_file.json_schema()),
    ):
        path = folder / name
        if path.exists() and _is_ours(path, schema["title"]):
            path.unlink()  # it is made from the program, and goes with its release
        _write(path, _schema(schema))
        yield "written", path
    path = folder / "site.yaml"
    if path.exists():  # one site serves many studies
        yield "kept", path
        return
    _write(path, _filled("site.yaml.j2"))
    site_file.load_site(path)
    yield "written", path


def new(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Id of the study: small letters, digits, - and _.", show_default=False
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The study file; else NAME.yaml.")
    ] = None,
    arms: Annotated[int, typer.Option("--arms", min=1, max=_ARMS, help="Arms of the study.")] = 1,
    as_json: Json = False,
) -> None:
    """Write a study file to start from, its JSON schema, and a site file; nothing is overwritten.

    The study file is valid as it is. What a person has to decide is marked `# DECIDE:`; `study validate` lists
    these questions, and `run` refuses the study while one is open.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            "the id of a study has small letters, digits, - and _, at most 64, and begins with a letter or digit",
            where="NAME",
        )
    path = out or Path(f"{name}.yaml")
    text = _filled(
        "study.yaml.j2",
        name=name,
        arms=arms,
        drugs=_drugs(),
        cutoff=dt.datetime.now(dt.UTC).date().isoformat(),
        start="randomisation" if arms > 1 else "first_dose",
    )
    _write(path, text)
    study_file.load_study(path)
    files = [("written", path), *_beside(path.parent)]
    questions = len(open_questions(text.encode()))
    if as_json:
        answer = {"study": str(path), "files": {str(item): what for what, item in files}, "open": questions}
        typer.echo(json.dumps(answer))
        return
    for what, item in files:
        typer.echo(f"{what}: {item}")
    typer.echo(f"{questions} questions to decide: fhir-adapter study validate {path}")
