"""Bulk Data export of a real HAPI FHIR server: it lands what searches land."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fhir_adapter.landing import Landing

from .conftest import SIX, Adapter, results_of, six_patients, write_site

pytestmark = pytest.mark.hapi

Hapi = Any  # the class stands in tests/conftest.py, which is not importable by name


def landed(site: Path) -> set[tuple[str, str, str]]:
    """Type, id and version of everything that is current in a site's landing."""
    with Landing.open(site.parent / "state" / "test", read_only=True) as landing:
        return {(item.type, item.id, item.version) for item in landing.current()}


def test_export_and_searches_land_the_same_set(hapi: Hapi, adapter: Adapter, tmp_path: Path) -> None:
    """Two landings of one server, one by `$export` and one by searches: the same versions, the same results."""
    hapi.load(six_patients())
    retry = {"attempts": 3, "max_wait_s": 1, "timeout_s": 120}
    url = hapi.base
    searched = write_site(tmp_path / "rest", source={"kind": "rest", "url": url}, retry=retry)
    exported = write_site(tmp_path / "bulk", source={"kind": "bulk", "url": url}, retry=retry)
    runs = {
        site: adapter(
            "run", SIX / "six.yaml", "--site", site, "--out", site.parent / "runs", "--quiet", "--json"
        ).run
        for site in (searched, exported)
    }
    report = json.loads((runs[exported] / "manifest.json").read_text("utf-8"))["pull"]
    assert report["kind"] == "bulk"
    assert {item["code"] for item in report["findings"]} <= {"export-resumed"}
    assert landed(searched) == landed(exported)
    assert results_of(runs[searched]) == results_of(runs[exported])
    again = adapter("pull", runs[exported], "--quiet", "--json")  # what changed since: nothing
    assert json.loads(again.out)["findings"] == 0
    assert landed(searched) == landed(exported)
