"""What the mapping's tests share: resources as they land, and the two test folders."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fhir_adapter.mapping.references import key_of
from fhir_adapter.mapping.stage import Mapped, map_resources
from fhir_adapter.study import Study, load_study

DATA = Path(__file__).parent.parent / "data"
SIX = DATA / "six"
PLANTED = DATA / "planted"


@dataclass(frozen=True)
class Raw:
    """A landed resource."""

    type: str
    id: str
    version: str
    sequence: int
    subject: str | None
    body: bytes


def landed(resources: Iterable[dict[str, Any]]) -> list[Raw]:
    """Resources as they land, numbered in their order."""
    found = []
    for number, resource in enumerate(resources, start=1):
        kind, id_ = resource["resourceType"], resource["id"]
        subject = f"Patient/{id_}" if kind == "Patient" else None
        for name in ("subject", "patient", "individual"):
            key = key_of(resource.get(name, {}).get("reference")) or ""
            subject = subject or (key if key.startswith("Patient/") else None)
        body = json.dumps(resource, ensure_ascii=False).encode()
        found.append(Raw(kind, id_, "1", number, subject, body))
    return found


def six() -> list[dict[str, Any]]:
    """All resources of the six patients."""
    files = sorted(SIX.glob("*.json"))
    return [entry["resource"] for path in files for entry in json.loads(path.read_text("utf-8"))["entry"]]


def six_study(**changes: Any) -> Study:
    """The study of the six patients, with some parts of it changed."""
    study, _ = load_study(SIX / "six.yaml")
    return Study.model_validate(study.model_dump(by_alias=True) | changes)


def mapped(
    *more: dict[str, Any], without: Iterable[str] = (), patients: Iterable[str] | None = None, **changes: Any
) -> Mapped:
    """The six patients and some more resources, mapped.

    Args:
        more: resources to add; one of the same `Type/id` takes the place of another.
        without: `Type/id`s to leave out.
        patients: ids of the patients to keep with all that is theirs; None for all six.
        changes: parts of the study to change.
    """
    left_out = set(without) | {f"{item['resourceType']}/{item['id']}" for item in more}
    kept = [item for item in six() if f"{item['resourceType']}/{item['id']}" not in left_out]
    if patients is not None:
        prefixes = (*patients, "six-study", "six-anlotinib")
        kept = [item for item in kept if item["id"].startswith(prefixes)]
    return map_resources(landed([*kept, *more]), six_study(**changes), key=None)


def rows(result: Mapped, dataset: str, *columns: str, **where: Any) -> list[tuple[Any, ...]]:
    """Some columns of the rows of a dataset that have the values of `where`; missing values are None."""
    frame = result.datasets[dataset]
    for name, value in where.items():
        frame = frame[frame[name] == value]
    picked = frame[list(columns)].astype("object")
    return [tuple(row) for row in picked.where(picked.notna(), None).itertuples(index=False)]
