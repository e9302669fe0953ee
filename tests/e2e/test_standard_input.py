"""`--source -`: a Bundle or NDJSON on standard input, as an integration engine sends it."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard

from fhir_adapter.connectors import PullReport, plan_from_study, pull
from fhir_adapter.errors import SourceIncomplete, SourceNotFhir, UsageError
from fhir_adapter.landing import Landing
from fhir_adapter.pipeline import Settings, new_run
from fhir_adapter.site import Site

from .conftest import SIX, Adapter, six_patients, write_site, write_source

PATIENTS = [{"resourceType": "Patient", "id": name} for name in "abc"]
BUNDLE = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": item} for item in PATIENTS]}
NDJSON = b"\n".join(json.dumps(item).encode() for item in PATIENTS) + b"\n"


class Input:
    """Standard input with some bytes."""

    def __init__(self, content: bytes, *, terminal: bool = False) -> None:
        self.buffer = io.BytesIO(content)
        self._terminal = terminal

    def isatty(self) -> bool:
        """Whether a person sits there."""
        return self._terminal


@pytest.fixture
def send(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pulls what stands on standard input: what the pull says, and what is current afterwards."""

    def go(content: bytes, *, terminal: bool = False, full: bool = False, **settings: Any) -> Any:
        monkeypatch.setattr(sys, "stdin", Input(content, terminal=terminal))
        site = Site.model_validate(
            {"id": "stdin", "source": {"kind": "files", "path": "-"}, "state_dir": tmp_path, **settings}
        )
        with Landing.open(site.landing_dir) as landing:
            report: PullReport = pull(site, plan_from_study({"all_patients": True}), landing, full=full)
            return report, [item.id for item in landing.current()]

    return go


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(BUNDLE).encode(),
        json.dumps(BUNDLE, indent=2).encode(),
        b"\xef\xbb\xbf\n\n" + NDJSON,
        json.dumps(PATIENTS).encode() + b"\n\n",
        json.dumps(BUNDLE).encode() + b"\n" + NDJSON,
        gzip.compress(NDJSON, mtime=0),
        gzip.compress(json.dumps(BUNDLE, indent=2).encode()),
        zstandard.ZstdCompressor().compress(NDJSON),
        zstandard.ZstdCompressor().compress(json.dumps(BUNDLE).encode()),
    ],
    ids=["Bundle", "pretty Bundle", "NDJSON", "array", "NDJSON with a Bundle", "gzip NDJSON", "gzip Bundle",
         "Zstandard NDJSON", "Zstandard Bundle"],
)  # fmt: skip
def test_every_form(send: Any, content: bytes) -> None:
    """What it is tells its content; nothing needs to be said beside it."""
    report, landed = send(content)
    assert (report.kind, report.received, landed) == ("files", {"Patient": 3}, ["a", "b", "c"])


def test_what_comes_adds(send: Any, tmp_path: Path) -> None:
    """What a later Bundle does not hold stays; the same content is known by its hash, unless all is pulled again."""
    send(NDJSON)
    changed = {"resourceType": "Patient", "id": "b", "active": True}
    report, landed = send(json.dumps(changed).encode())
    assert (report.outcome.changed, landed) == (1, ["a", "b", "c"])
    report, _ = send(json.dumps(changed).encode())
    assert (report.skipped, report.requests) == (1, 0)
    report, _ = send(json.dumps(changed).encode(), full=True)
    assert (report.requests, report.outcome.unchanged) == (1, 1)
    # Nothing but the landing is left.
    assert {path.name for path in (tmp_path / "stdin").rglob("*") if path.is_file()} == {
        "index.sqlite", "000001.ndjson", "landing.lock",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "nothing stands on standard input"),
        (json.dumps(BUNDLE).encode()[:-9], "cut short"),
        (gzip.compress(NDJSON)[:-9], "damaged or cut short"),
        (zstandard.ZstdCompressor().compress(NDJSON * 999)[:-9], "damaged or cut short"),
        (b"<Bundle/>", "not JSON"),
        (b"\x00\x01\x02", "not JSON"),
    ],
    ids=["nothing", "cut", "cut gzip", "cut Zstandard", "XML", "noise"],
)
def test_what_is_not_fhir(send: Any, content: bytes, words: str) -> None:
    """Status 22 and what is wrong; the same content is not taken for done."""
    for _ in range(2):
        with pytest.raises(SourceNotFhir, match=words):
            send(content)


def test_limits(send: Any, tmp_path: Path) -> None:
    """More than max_pull_bytes, or without it max_page_bytes, is refused before anything lands; a terminal too."""
    with pytest.raises(SourceIncomplete, match="max_page_bytes"):
        send(NDJSON * 100, max_page_bytes=1024)
    with pytest.raises(SourceIncomplete, match="max_pull_bytes"):
        send(NDJSON * 100, max_pull_bytes=2048)
    for pack in (gzip.compress, zstandard.ZstdCompressor().compress):  # what it becomes counts
        with pytest.raises(SourceIncomplete, match="max_page_bytes"):
            send(pack(b" " * 10_000_000), max_page_bytes=20_000)
        with pytest.raises(SourceIncomplete, match="max_pull_bytes"):
            send(pack(NDJSON * 100_000), max_pull_bytes=50_000)
    with pytest.raises(UsageError, match="terminal"):
        send(NDJSON, terminal=True)
    with Landing.open(tmp_path / "stdin", read_only=True) as landing:
        assert landing.sequence == 0


def test_a_run_of_what_is_sent(tmp_path: Path, adapter: Adapter) -> None:
    """`run --source -` reports on what came; it adds to the landing of a site of files, beside its drop folder."""
    resources = six_patients()
    half = len(resources) // 2
    write_source(tmp_path / "source", resources[:half])
    site = write_site(tmp_path)
    folder = new_run(SIX / "six.yaml", site, tmp_path / "folder", Settings(quiet=True))
    folder.log.close()
    adapter("pull", folder.folder.path, "--quiet")
    bundle = {"resourceType": "Bundle", "type": "collection",
              "entry": [{"resource": item} for item in resources[half:]]}  # fmt: skip
    words = ["--site", site, "--out", tmp_path / "runs", "--quiet", "--json", "--source", "-"]
    whole = adapter("run", SIX / "six.yaml", *words, given=json.dumps(bundle, indent=1).encode()).run
    manifest = json.loads((whole / "manifest.json").read_bytes())
    assert sum(manifest["pull"]["received"].values()) == len(resources) - half  # what was sent alone
    landed = json.loads((whole / "accounting.json").read_bytes())["landed"]
    assert sum(row["current"] for row in landed.values()) == len(resources)
    assert len(list((tmp_path / "state").iterdir())) == 1
    assert (whole / "report.html").exists()
