"""What a run does whose landing was repaired, and the landings of runs that were given another source."""

from __future__ import annotations

import json
from pathlib import Path

from fhir_adapter.pipeline import Settings, new_run

from .conftest import SIX, Adapter, six_patients, write_site, write_source


def test_a_run_pulls_again_after_a_repair(tmp_path: Path, adapter: Adapter) -> None:
    """Its sequence number names another state now: it is not mapped (status 60) until it has pulled again."""
    source = write_source(tmp_path / "elsewhere", six_patients())
    site = write_site(tmp_path)
    words = ["--site", site, "--source", source]
    made = new_run(SIX / "six.yaml", site, tmp_path / "runs", Settings(source=str(source), quiet=True))
    made.log.close()
    run = made.folder.path
    adapter("pull", run, "--quiet")
    adapter("map", run, "--quiet")
    adapter("landing", "verify", "--site", site, status=22)  # the site's own source was never pulled
    adapter("landing", "verify", *words)
    (segment,) = (tmp_path / "state").rglob("000001.ndjson")
    segment.write_bytes(segment.read_bytes().replace(b"six-pd", b"six-xx", 1))
    assert "landing repair" in adapter("landing", "verify", *words, status=22).err
    assert json.loads(adapter("landing", "repair", *words, "--json").out)["versions"] == 1
    assert "`pull` first" in adapter("map", run, "--quiet", status=60).err
    adapter("pull", run, "--quiet")
    adapter("map", run, "--quiet")
    adapter("landing", "verify", *words)
    # Only by its source is that landing reached.
    adapter("purge", "--site", site, "--all")
    assert list((tmp_path / "state").rglob("*.ndjson"))
    adapter("purge", *words, "--all")
    assert not list((tmp_path / "state").rglob("*.ndjson"))
