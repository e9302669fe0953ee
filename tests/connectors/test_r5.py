"""A server of R5: found from its CapabilityStatement, asked by R5's names, read by R5's views."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from werkzeug import Request, Response

from fhir_adapter.datasets import read_dataset
from fhir_adapter.demo.synthetic.cohort import DEFAULT_STUDY, synthetic_subject
from fhir_adapter.demo.synthetic.releases import Release
from fhir_adapter.demo.synthetic.stream import cohort_resources
from fhir_adapter.pipeline import Settings, new_run

STUDY = Path(__file__).parent.parent / "data" / "dialects" / "study.yaml"
SUBJECT = synthetic_subject(51, seed=0, study=DEFAULT_STUDY)
VERSION = {"R4": "4.0.1", "R5": "5.0.0"}


def _records(frame: Any) -> list[dict[str, Any]]:
    plain = frame.drop(columns=["SRCVIEW", "SRCREF"]).astype("object")
    return list(plain.where(plain.notna(), None).to_dict("records"))


def _mapped(stub: Any, folder: Path, release: Release) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The subject on a server of a release, pulled and mapped."""
    stub.resources.clear()
    meta = {"versionId": "1", "lastUpdated": "2022-08-01T00:00:00+00:00"}
    for item in cohort_resources([SUBJECT], release=release):
        stub.resources[(item["resourceType"], item["id"])] = item | {"meta": item["meta"] | meta}
    statement = {"resourceType": "CapabilityStatement", "fhirVersion": VERSION[release]}

    def before(request: Request) -> Response | None:
        if request.path.endswith("/metadata"):
            return Response(json.dumps(statement), 200, content_type="application/fhir+json")
        return None

    stub.before = before
    folder.mkdir()
    site = folder / "site.yaml"
    source = {"kind": "rest", "url": stub.base}
    site.write_text(json.dumps({"id": "one", "source": source, "state_dir": str(folder / "state")}), "utf-8")
    run = new_run(STUDY, site, folder / "runs", Settings(quiet=True))
    with run.log, run.locked():
        run.stage("pull")
        run.stage("map")
    for name in ("DM", "AE", "EX", "CM", "TU", "TR", "RS", "SV", "DS", "MH", "PR"):
        yield name, _records(read_dataset(run.folder.datasets, name))


def test_an_r5_server_gives_what_an_r4_server_gives(stub: Any, tmp_path: Path) -> None:
    """The same subject on two servers: the same datasets; the subject is asked for by the name that R5 has."""
    of_r4 = dict(_mapped(stub, tmp_path / "r4", "R4"))
    assert all(of_r4[name] for name in ("DM", "AE", "EX", "TU", "TR", "RS", "SV", "DS"))
    stub.requests.clear()
    assert dict(_mapped(stub, tmp_path / "r5", "R5")) == of_r4
    assert not [request for request in stub.requests if "individual" in request.args]
