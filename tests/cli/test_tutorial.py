"""The tutorial, command by command as it stands in docs/tutorial.md, against a small synthetic source."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fhir_adapter.cli import app

TUTORIAL = Path(__file__).resolve().parent.parent.parent / "docs" / "tutorial.md"
SIX = Path(__file__).resolve().parent.parent / "data" / "six"

#: What the person who follows the tutorial answers: text of the new study file → decision.
DECISIONS = {
    "system: https://example.org/lms-2/subject": "system: https://fhir-adapter.org/six/subject",
    '{system: "https://example.org/study", value: lms-2}': "{system: https://fhir-adapter.org/six/study, value: SIX}",
    "{policy: required}": '{policy: waived, reference: "Synthetic data"}',
    "{id: doxorubicin, label: Doxorubicin, concept: doxorubicin, dose: 75, unit: mg/m2}": (
        "{id: anlotinib, label: Anlotinib, concept: anlotinib, dose: 12, unit: mg}"
    ),
    "synthetic: false": "synthetic: true",
}


def blocks(kind: str) -> list[str]:
    """The code blocks of a kind, in order."""
    return re.findall(rf"```{kind}\n(.*?)```", TUTORIAL.read_text("utf-8"), flags=re.DOTALL)


def commands() -> list[str]:
    """Every command of the tutorial, in order."""
    return [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]


def hospital(folder: Path) -> None:
    """The six patients, with their first drug under a code that only this hospital knows."""
    folder.mkdir()
    lines = []
    for path in sorted(SIX.glob("*.json")):
        for entry in json.loads(path.read_text("utf-8"))["entry"]:
            resource: dict[str, Any] = entry["resource"]
            if resource["resourceType"] == "Medication":
                resource["code"] = {
                    "coding": [{"system": "https://hospital.example/drugs", "code": "H-0815"}]
                }
            lines.append(json.dumps(resource))
    (folder / "resources.ndjson").write_text("\n".join(lines) + "\n", "utf-8")


def decide(path: Path) -> None:
    """Answers every question: some with another value, the others by taking the mark away."""
    text = path.read_text("utf-8")
    for old, new in DECISIONS.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path.write_text("\n".join(line.partition("  # DECIDE:")[0] for line in text.splitlines()) + "\n", "utf-8")


def unknown_drugs(run: Path) -> list[dict[str, Any]]:
    found = [json.loads(item["detail"]) for item in json.loads((run / "findings.json").read_bytes())
             if item["code"] == "unknown-code"]  # fmt: skip
    return [item for item in found if item["concept_map"] == "drug"]


def test_the_tutorial_from_its_first_command_to_its_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command ends as the tutorial says; the map that is filled makes the unknown drug known."""
    monkeypatch.chdir(tmp_path)
    hospital(tmp_path / "source")
    study, site = tmp_path / "lms-2.yaml", tmp_path / "site.yaml"
    verbs = {
        command.name or command.callback.__name__ for command in app.registered_commands if command.callback
    }
    run, validated, said = tmp_path, 0, {}
    for command in commands():
        program, *arguments = shlex.split(command)
        assert "fhir-adapter" == program
        if arguments[0] == "check" and "check" not in verbs:
            continue
        if arguments[:2] == ["study", "validate"] and validated:
            decide(study)
        if arguments[0] == "run" and run != tmp_path:
            assert ["H-0815"] == [item["code"] for item in unknown_drugs(run)]
            (tmp_path / "concepts").mkdir()
            (tmp_path / "concepts" / "drug.json").write_text(blocks("json")[0], "utf-8")
            (line,) = (block for block in blocks("yaml") if block.startswith("concept_dirs"))
            site.write_text(site.read_text("utf-8") + line, "utf-8")
        arguments = [{"RUN": str(run), "SUBJECT": "SIX-002"}.get(item, item) for item in arguments]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code in ((0, 3) if arguments[0] in {"run", "check"} else (0,)), (
            f"{command}\n{done.output}"
        )
        said[command] = done.output
        if arguments[:2] == ["study", "validate"]:
            assert (" to decide" in done.output) == (validated == 0)
            validated += 1
        if arguments[0] == "run":
            (report,) = (line for line in done.output.splitlines() if line.endswith("report.html"))
            run = Path(report).parent
    assert [] == unknown_drugs(run)
    assert "drug.json" in (run / "manifest.json").read_text("utf-8")
    assert "subjects: 6" in said["fhir-adapter explain RUN flow.treated.n"]
    assert "Patient.gender" in said["fhir-adapter explain RUN DM.SEX --subject SUBJECT --seq 1"]
    assert (run / "writeback.json").exists()
