#!/usr/bin/env python3
"""Writes the generated pages of `docs/`: commands, errors, the study and the site file.

    python scripts/build_docs.py            write them
    python scripts/build_docs.py --check    write nothing; exit status 1 and their names if one is not fresh

`make docs` calls the first; a test of the repository compares.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from fhir_adapter import errors
from fhir_adapter.cli import app
from fhir_adapter.site import json_schema as site_schema
from fhir_adapter.study import json_schema

__all__ = ["generated_pages", "leaves", "main"]

DOCS = Path(__file__).resolve().parent.parent / "docs"
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_NOTE = "<!-- Written by `make docs`; do not edit. -->\n"


def _cell(text: object) -> str:
    return re.sub(r"\s+", " ", str(text)).replace("|", "\\|").strip()


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines) + "\n"


def _metavar(parameter: Any) -> str:
    """What stands for the value of an argument or option."""
    return str(parameter.metavar or parameter.name.upper())


def _usage(command: Any, path: str) -> str:
    arguments = [_metavar(one) for one in command.params if one.param_type_name == "argument"]
    return " ".join([path, *arguments, *(["[OPTIONS]"] if _options(command) else [])])


def _options(command: Any) -> list[Any]:
    return [one for one in command.params if one.param_type_name == "option" and not one.hidden]


def _command_section(command: Any, path: str) -> Iterator[str]:
    yield f"\n## `{path}`\n"
    yield f"\n{inspect.cleandoc(command.help or '')}\n"
    yield f"\n    {_usage(command, path)}\n"
    rows: list[tuple[str, ...]] = []
    for parameter in command.params:
        if getattr(parameter, "hidden", False):
            continue
        if parameter.param_type_name == "argument":
            name, default = (
                _metavar(parameter),
                "required" if parameter.required else parameter.default,
            )
        else:
            names = ", ".join([*parameter.opts, *parameter.secondary_opts])
            name = names if parameter.is_flag else f"{names} {_metavar(parameter)}"
            default = "required" if parameter.required else "" if parameter.is_flag else parameter.default
        rows.append((f"`{name}`", parameter.help or "", "" if default is None else str(default)))
    if rows:
        yield "\n" + _table(("Argument or option", "Meaning", "Default"), rows)


def leaves(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every command under a command line, with the words that call it."""
    if hasattr(command, "commands"):
        for name, child in command.commands.items():
            yield from leaves(child, f"{path} {name}")
    else:
        yield path, command


def commands_page() -> str:
    """The page of the command line: each verb with its arguments and options."""
    root = typer.main.get_command(app)
    all_leaves = list(leaves(root, "fhir-adapter"))
    parts = [
        _NOTE,
        "# Commands\n",
        f"\n{inspect.cleandoc(root.help or '')}\n",
        "\nData go to stdout; progress, warnings and errors go to stderr. ",
        "[errors.md](errors.md) lists the exit statuses.\n\n",
        _table(
            ("Command", "What it does"),
            [(f"`{path}`", (command.help or "").partition("\n\n")[0]) for path, command in all_leaves],
        ),
    ]
    for path, command in all_leaves:
        parts += _command_section(command, path)
    return "".join(parts)


def _exit_statuses() -> list[tuple[str, ...]]:
    by_status: dict[int, list[str]] = {}
    for name in errors.__all__:
        error = getattr(errors, name)
        if error is not errors.AdapterError:
            by_status.setdefault(error.exit_status, []).append(f"`{error.code}`")
    rows = {status: ", ".join(codes) for status, codes in by_status.items()}
    rows[0] = "done"
    rows[3] = "done, with findings above the study's limits"
    rows[70] = "a defect of our own"
    return [(str(status), rows[status]) for status in sorted(rows)]


def errors_page() -> str:
    """The catalogue of errors: code, class, exit status and meaning of each."""
    rows: list[tuple[str, ...]] = []
    for name in errors.__all__:
        error = getattr(errors, name)
        if error is errors.AdapterError:
            continue
        rows.append(
            (
                f"`{error.code}`",
                f"`{name}`",
                str(error.exit_status),
                inspect.cleandoc(error.__doc__ or "").partition("\n\n")[0],
            )
        )
    rows.sort(key=lambda row: (int(row[2]), row[0]))
    return "".join(
        [
            _NOTE,
            "# Errors and exit statuses\n\n",
            "A run that cannot go on ends with one line on stderr,\n",
            "`fhir-adapter: <code>: <where>: <what> <remedy>`, and the exit status of its class. ",
            "No message carries a name,\na birth date or an identifier of a patient. ",
            "The message of a defect of our own (status 70) names only the place in\nthe program.\n\n",
            "## Errors\n\n",
            _table(("Code", "Class", "Exit status", "Meaning"), rows),
            "\n## Exit statuses\n\n",
            _table(("Status", "Errors or meaning"), _exit_statuses()),
        ]
    )


def _type_name(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in schema:
        return f"`{json.dumps(schema['const'], ensure_ascii=False)}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(_type_name(one) for one in schema[key] if one.get("type") != "null")
    if schema.get("type") == "array":
        return f"list of {_type_name(schema.get('items', {}))}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"map to {_type_name(schema['additionalProperties'])}"
    kind = schema.get("format") or schema.get("type") or "any"
    bounds = [f"{sign} {schema[key]}" for key, sign in _BOUNDS.items() if key in schema]
    if "pattern" in schema:
        bounds.append(f"as `{schema['pattern']}`")
    return " ".join([str(kind), ", ".join(bounds)]).strip()


def _fields(schema: dict[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows: list[tuple[str, ...]] = []
    for name, field in schema.get("properties", {}).items():
        default = "required" if name in required else ""
        if (
            name not in required
            and not isinstance(field.get("default"), dict | None)
            and field["default"] not in ([], "")
        ):
            default = f"`{json.dumps(field['default'], ensure_ascii=False)}`"
        rows.append((f"`{name}`", _type_name(field), default, field.get("description", "")))
    return _table(("Field", "Type", "Default", "Meaning"), rows) if rows else "No fields of its own.\n"


def _model_page(head: list[str], schema: dict[str, Any]) -> str:
    """A page of the tables of a model: the whole file, then each part of it."""
    parts = [_NOTE, *head, "## The whole file\n\n"]
    if schema.get("description"):
        parts.append(inspect.cleandoc(schema["description"]) + "\n\n")
    parts.append(_fields(schema))
    for name, definition in sorted(schema.get("$defs", {}).items()):
        parts.append(f"\n## {name}\n\n")
        if definition.get("description"):
            parts.append(inspect.cleandoc(definition["description"]) + "\n\n")
        of_fields = definition.get("type") == "object"
        parts.append(_fields(definition) if of_fields else f"{_type_name(definition)}\n")
    return "".join(parts)


def study_page() -> str:
    """The reference of the study file, part by part, from its JSON schema."""
    head = [
        "# The study file\n\n",
        "A study file is YAML. A field that is not in these tables is an error, which names file and line. ",
        "The same as a\nJSON schema, for editors: [study.schema.json](study.schema.json). ",
        "`fhir-adapter study validate` checks a file.\n\n",
    ]
    return _model_page(head, json_schema())


def site_page() -> str:
    """The reference of the site file, part by part, from its model."""
    head = [
        "# The site file\n\n",
        "A site file is YAML and says where a source is and how to talk to it. ",
        "It holds no secret: it names the\nenvironment variables or files that hold them. ",
        "A field that is not in these tables is an error, which names\nfile and line. ",
        "Relative paths are relative to the site file, `state_dir` to the working directory.\n\n",
    ]
    return _model_page(head, site_schema())


def schema_file(schema: dict[str, Any]) -> str:
    """A JSON schema as a file."""
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def generated_pages() -> dict[str, str]:
    """Every generated file of `docs/` by its name."""
    return {
        "commands.md": commands_page(),
        "errors.md": errors_page(),
        "site-file.md": site_page(),
        "study-file.md": study_page(),
        "site.schema.json": schema_file(site_schema()),
        "study.schema.json": schema_file(json_schema()),
    }


def main() -> int:
    """Writes the pages, or checks them."""
    parser = argparse.ArgumentParser(description="Write the generated pages of docs/.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit status 1 if a page is not fresh"
    )
    check = parser.parse_args().check
    stale = []
    for name, text in generated_pages().items():
        path = DOCS / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not check:
            path.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"{'not fresh' if check else 'written'}: docs/{name}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
