"""`fhir-adapter demo`: the synthetic reference cohort through the whole pipeline, embedded or on a server."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from fhir_adapter.assets import asset
from fhir_adapter.cli.options import Json, Quiet
from fhir_adapter.cli.run import finish
from fhir_adapter.demo.reference import reference_cohort
from fhir_adapter.errors import SourceNotFhir
from fhir_adapter.pipeline import Settings, new_run, run_all
from fhir_adapter.rundir import private_dir, write_atomic, write_json
from fhir_adapter.site import Site, load_site
from fhir_adapter.writeback.transport import WriteClient

__all__ = ["demo"]

#: Types in an order in which every reference points to what is there already (servers check references).
_ORDER = (
    "ResearchStudy",
    "Patient",
    "Medication",
    "ResearchSubject",
    "Encounter",
    "BodyStructure",
    "Condition",
)
_BATCH = 400


def _transactions(resources: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    rank = {name: number for number, name in enumerate(_ORDER)}
    ordered = sorted(resources, key=lambda item: rank.get(item["resourceType"], len(rank)))
    for start in range(0, len(ordered), _BATCH):
        entries = [
            {"resource": item, "request": {"method": "PUT", "url": f"{item['resourceType']}/{item['id']}"}}
            for item in ordered[start : start + _BATCH]
        ]
        yield {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def _load(site: Site, url: str, resources: Sequence[dict[str, Any]]) -> None:
    """Puts the cohort on a server by transactions; the same ids each time, so that loading twice changes nothing."""
    with WriteClient(site, url) as client:
        for bundle in _transactions(resources):
            answer = client.request("POST", "", body=msgspec.json.encode(bundle))
            if answer.status != 200:
                raise SourceNotFhir(
                    f"the server answers {answer.status} to loading the synthetic cohort", where=url
                )


def _ndjson(folder: Path, resources: Sequence[dict[str, Any]]) -> None:
    by_type: dict[str, list[bytes]] = defaultdict(list)
    for item in resources:
        by_type[item["resourceType"]].append(msgspec.json.encode(item))
    for type_, lines in by_type.items():
        write_atomic(folder / f"{type_}.ndjson", b"\n".join(lines) + b"\n")


def demo(
    server: Annotated[
        str | None, typer.Option("--server", metavar="URL", help="Load the cohort there, and write back.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the demo.")] = Path("demo-out"),
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run the reference study on its synthetic cohort: from FHIR resources to the report, in one go."""
    private_dir(out)
    resources = list(reference_cohort())
    settings: dict[str, Any] = {"id": "demo", "state_dir": str((out / "state").absolute())}
    if server is None:
        _ndjson(private_dir(out / "source"), resources)
        settings["source"] = {"kind": "files", "path": str((out / "source").absolute())}
    else:
        settings["source"] = {"kind": "rest", "url": server}
        settings["write_back"] = {"policy": "allowed"}
    site_file = write_json(out / "site.yaml", settings)  # JSON is YAML
    if server is not None:
        _load(load_site(site_file), server, resources)
    study = asset("mappings", "studies", "retroperitoneal-sarcoma.yaml")
    write = "dry-run" if server is None else "yes"
    current = new_run(study, site_file, out / "runs", Settings(write=write, quiet=quiet))
    finish(current, run_all(current), as_json=as_json)
