"""Pulling from a folder: what is read, what is odd and kept, what ends the pull."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from fhir_adapter.connectors import PullReport, plan_from_study, pull
from fhir_adapter.errors import SourceIncomplete, SourceNotFhir, SourceUnreachable
from fhir_adapter.landing import Landing
from fhir_adapter.site import Site

PLAN = plan_from_study({"all_patients": True})
Pull = Callable[..., PullReport]


def resource(type_: str, id_: str, **content: Any) -> dict[str, Any]:
    """A resource."""
    return {"resourceType": type_, "id": id_, **content}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An empty source folder."""
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


@pytest.fixture
def pull_from(tmp_path: Path, source: Path) -> Pull:
    """Pulls from the source folder, or a file in it."""

    def go(name: str = "", *, full: bool = False, **changes: Any) -> PullReport:
        site = Site.model_validate(
            {
                "id": "files",
                "source": {"kind": "files", "path": source / name},
                "state_dir": tmp_path,
                **changes,
            }
        )
        with Landing.open(site.landing_dir) as landing:
            return pull(site, PLAN, landing, full=full)

    return go


@pytest.fixture
def landing(tmp_path: Path) -> Callable[[], Landing]:
    """Opens what landed."""
    return lambda: Landing.open(tmp_path / "files", read_only=True)


def names(landing: Landing) -> list[str]:
    """What is current."""
    with landing:
        return [f"{item.type}/{item.id}" for item in landing.current()]


def test_every_form_of_file(source: Path, pull_from: Pull, landing: Callable[[], Landing]) -> None:
    """NDJSON, Bundle, array and single resource, plain and gzipped, in folders, all land."""
    (source / "a.ndjson").write_text(
        '{"resourceType":"Patient","id":"a"}\n\n{"resourceType":"Patient","id":"b"}'
    )
    (source / "b.json").write_text(
        json.dumps(
            resource("Bundle", "x", type="collection", entry=[{"resource": resource("Patient", "c")}]),
            indent=2,
        )
    )
    (source / "c.json").write_text(json.dumps([resource("Patient", "d"), resource("Patient", "e")]))
    (source / "deep").mkdir()
    (source / "deep" / "d.json").write_text(json.dumps(resource("Patient", "f")))
    (source / "e.ndjson.gz").write_bytes(gzip.compress(b'{"resourceType":"Patient","id":"g"}\n'))
    (source / "f.JSON.gz").write_bytes(gzip.compress(b'\xef\xbb\xbf{"resourceType":"Patient","id":"h"}'))
    (source / "notes.txt").write_text("none")
    (source / ".hidden.ndjson").write_text("none")
    report = pull_from()
    assert names(landing()) == [f"Patient/{letter}" for letter in "abcdefgh"]
    assert (report.requests, report.received) == (6, {"Patient": 8})
    assert [finding.code for finding in report.findings] == ["files-left-out"]


def test_one_file(source: Path, pull_from: Pull) -> None:
    """A source may be one file."""
    (source / "a.ndjson").write_text('{"resourceType":"Patient","id":"a"}\n')
    (source / "b.ndjson").write_text('{"resourceType":"Patient","id":"b"}\n')
    assert pull_from("b.ndjson").received == {"Patient": 1}


def test_lines_that_are_no_resource_are_kept(
    source: Path, pull_from: Pull, landing: Callable[[], Landing]
) -> None:
    """Each such line lands as unreadable with file and line, and the rest goes on."""
    lines = [
        b'{"resourceType":"Patient","id":"a"}',
        b"no JSON at all",
        b'{"resourceType":"Patient","id":"cut"',
        b'{"resourceType":"Patient"}',
        b'{"id":"no-type"}',
        b"[1]",
        b"{}",
        b"{}",
        b'{"resourceType":"Patient","id":"../../etc"}',
        b'{"resourceType":"Patient","id":"bytes","x":"\xff\xfe"',
        b'{"resourceType":"Patient","id":"z"}',
    ]
    (source / "a.ndjson").write_bytes(b"\n".join(lines))
    report = pull_from()
    assert report.unreadable == 9
    assert names(landing()) == ["Patient/a", "Patient/z"]
    with landing() as opened:
        kept = list(opened.unreadable())
        assert [item.origin for item in kept] == [f"a.ndjson:{line}" for line in range(2, 11)]
        assert [item.body for item in kept] == lines[1:10]


def test_mended_line_is_no_longer_unreadable(
    source: Path, pull_from: Pull, landing: Callable[[], Landing]
) -> None:
    """When a file is read again, what was odd in it and is not there any more no longer counts as such."""
    (source / "a.ndjson").write_text('{"resourceType":"Patient","id":"a"\noops\n')
    pull_from()
    (source / "a.ndjson").write_text('{"resourceType":"Patient","id":"a"}\noops\n')
    assert pull_from().outcome.deleted == 1
    with landing() as opened:
        assert [item.body for item in opened.unreadable()] == [b"oops"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("b.json", b'{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Pat', "cut short"),
        ("b.json", b"", "cut short"),
        ("b.json", b'{"name":"fhir-adapter","version":"1"}', "not a FHIR resource"),
        ("b.json", b"<Bundle/>", "not JSON"),
        ("b.json", b'{"resourceType":"Bundle","entry":"x"}', "not a Bundle"),
        ("b.json", b'[{"resourceType":"Patient","id":"x"}', "cut short"),
        ("b.json", b'{"resourceType":"Patient",' + b'"a":' + b"[" * 100_000, "cut short|not JSON"),
        ("b.json.gz", b"plain", "damaged or cut short"),
        (
            "b.ndjson.gz",
            gzip.compress(b'{"resourceType":"Patient","id":"x"}\n' * 99, mtime=0)[:-20],
            "damaged or cut short",
        ),
    ],
)
def test_files_that_end_the_pull(
    source: Path, pull_from: Pull, name: str, content: bytes, words: str
) -> None:
    """A document that is cut or no FHIR ends the pull, and the message names it; what came before stays."""
    (source / "a.ndjson").write_text('{"resourceType":"Patient","id":"a"}')
    (source / name).write_bytes(content)
    with pytest.raises(SourceNotFhir, match=words) as caught:
        pull_from()
    assert caught.value.where == name


def test_nothing_to_read(source: Path, pull_from: Pull) -> None:
    """No folder is a source that cannot be reached; a folder without FHIR is none."""
    with pytest.raises(SourceUnreachable, match="no such folder"):
        pull_from("nowhere")
    with pytest.raises(SourceNotFhir, match=r"no \.ndjson or \.json file"):
        pull_from()


def test_limits(source: Path, pull_from: Pull) -> None:
    """A line, a document and a number of resources above the site's limits end the pull."""
    (source / "a.ndjson").write_text('{"resourceType":"Patient","id":"a"}\n' * 3 + " " * 5000)
    with pytest.raises(SourceNotFhir, match="longer than max_page_bytes"):
        pull_from(max_page_bytes=2000)
    (source / "a.ndjson").rename(source / "a.json")
    with pytest.raises(SourceNotFhir, match="longer than max_page_bytes"):
        pull_from(max_page_bytes=2000)
    (source / "a.json").rename(source / "a.ndjson")
    with pytest.raises(SourceIncomplete, match="max_resources"):
        pull_from(max_resources=2)


def test_newer_version_wins_whatever_the_order(
    source: Path, pull_from: Pull, landing: Callable[[], Landing]
) -> None:
    """Of two files with one resource the newer version is current, the older counts as superseded."""
    new = resource("Patient", "a", meta={"versionId": "10"}, active=True)
    old = resource("Patient", "a", meta={"versionId": "9"}, active=False)
    (source / "a.json").write_text(json.dumps(new))
    (source / "b.json").write_text(json.dumps(old))
    assert pull_from().outcome.older == 1
    with landing() as opened:
        assert [item.version for item in opened.current()] == ["10"]
        assert opened.counts()["Patient"]["superseded"] == 1
    assert pull_from(full=True).outcome.unchanged == 2


def test_without_versions_the_later_file_wins(
    source: Path, pull_from: Pull, landing: Callable[[], Landing]
) -> None:
    """Without versionId and lastUpdated what came later is current."""
    (source / "a.json").write_text(json.dumps(resource("Patient", "a", active=True)))
    (source / "b.json").write_text(json.dumps(resource("Patient", "a", active=False)))
    pull_from()
    with landing() as opened:
        assert [b"false" in item.body for item in opened.current()] == [True]


def test_unchanged_files_are_not_read_again(source: Path, pull_from: Pull) -> None:
    """A file that is as it was is skipped; one that changed is read; with full all are."""
    (source / "a.ndjson").write_text('{"resourceType":"Patient","id":"a"}')
    (source / "b.ndjson").write_text('{"resourceType":"Patient","id":"b"}')
    pull_from()
    (source / "b.ndjson").write_text('{"resourceType":"Patient","id":"b","active":true}')
    second = pull_from()
    assert (second.skipped, second.requests, second.outcome.changed) == (1, 1, 1)
    third = pull_from(full=True)
    assert (third.requests, third.after) == (2, second.after)


def test_urn_references_within_a_bundle(
    source: Path, pull_from: Pull, landing: Callable[[], Landing]
) -> None:
    """A reference by urn:uuid finds its patient through fullUrl."""
    entries = [
        {"fullUrl": "urn:uuid:1", "resource": resource("Patient", "a")},
        {"resource": resource("Observation", "o", subject={"reference": "urn:uuid:1"})},
    ]
    (source / "a.json").write_text(json.dumps(resource("Bundle", "x", entry=entries)))
    pull_from()
    with landing() as opened:
        assert [item.id for item in opened.by_subject(["Patient/a"])] == ["o", "a"]


def test_deletions_in_a_bundle(source: Path, pull_from: Pull, landing: Callable[[], Landing]) -> None:
    """An entry whose request is DELETE deletes."""
    (source / "a.ndjson").write_text(
        '{"resourceType":"Patient","id":"a"}\n{"resourceType":"Patient","id":"b"}'
    )
    entries = [{"request": {"method": "DELETE", "url": "Patient/a"}}, None, {}]
    (source / "b.json").write_text(json.dumps(resource("Bundle", "x", entry=entries)))
    report = pull_from()
    assert (report.outcome.deleted, report.unreadable) == (1, 1)
    assert names(landing()) == ["Patient/b"]


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path, source: Path, pull_from: Pull) -> None:
    """A symbolic link that leads out of the folder is no part of the source."""
    (tmp_path / "outside.ndjson").write_text('{"resourceType":"Patient","id":"outside"}')
    (source / "in.ndjson").write_text('{"resourceType":"Patient","id":"in"}')
    (source / "out.ndjson").symlink_to(tmp_path / "outside.ndjson")
    assert pull_from().received == {"Patient": 1}


def test_names_of_any_bytes(source: Path, pull_from: Pull) -> None:
    """A file whose name is not UTF-8 is read like any other."""
    (source / os.fsdecode(b"pati\xebnt.ndjson")).write_text('{"resourceType":"Patient","id":"a"}\noops')
    assert pull_from().received == {"": 1, "Patient": 1}


def test_version_that_cannot_be_one(source: Path, pull_from: Pull, landing: Callable[[], Landing]) -> None:
    """A versionId of a megabyte is left aside; the resource lands."""
    huge = resource("Patient", "a", meta={"versionId": "9" * 1_000_000, "lastUpdated": "x" * 1_000_000})
    (source / "a.json").write_text(json.dumps(huge))
    pull_from()
    with landing() as opened:
        assert [(item.id, item.version, len(item.last_updated)) for item in opened.current()] == [
            ("a", "", 40)
        ]


def test_zstandard(source: Path, pull_from: Pull, landing: Callable[[], Landing]) -> None:
    """Zstandard is read like gzip, several frames in a row too; a damaged file ends the pull by its name."""
    pack = zstandard.ZstdCompressor(write_checksum=True).compress
    (source / "a.ndjson.zst").write_bytes(
        pack(b'{"resourceType":"Patient","id":"a"}\n') + pack(b'{"resourceType":"Patient","id":"b"}\n')
    )
    (source / "b.json.zst").write_bytes(pack(b'{"resourceType":"Patient","id":"c"}'))
    pull_from()
    assert names(landing()) == ["Patient/a", "Patient/b", "Patient/c"]
    (source / "c.ndjson.zst").write_bytes(b"no Zstandard at all")
    with pytest.raises(SourceNotFhir, match="damaged"):
        pull_from()


def test_a_cut_zstandard_file_ends_the_pull(source: Path, pull_from: Pull) -> None:
    """A frame that was cut is no end of the file: nobody can say what it lacks."""
    lines = "".join(json.dumps(resource("Patient", f"p{number}")) + "\n" for number in range(5000)).encode()
    whole = zstandard.ZstdCompressor().compress(lines)
    (source / "a.ndjson.zst").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceNotFhir, match=r"a\.ndjson\.zst"):
        pull_from()


def test_a_done_file_is_known_by_its_content(
    source: Path, pull_from: Pull, landing: Callable[[], Landing]
) -> None:
    """Touched, moved or dropped twice it is not read again; under its own name an old content counts again."""
    path = source / "a.ndjson"
    old, new = resource("Patient", "a", gender="male"), resource("Patient", "a", gender="female")
    path.write_text(json.dumps(old))
    assert pull_from().skipped == 0
    os.utime(path, ns=(1, 1))
    assert pull_from().skipped == 1
    path.write_text(json.dumps(new))
    pull_from()
    (source / "again.ndjson").write_text(json.dumps(old))
    report = pull_from()
    assert (report.requests, report.skipped) == (0, 2)
    with landing() as open_landing:
        assert b"female" in next(iter(open_landing.bodies("Patient")))
    path.write_text(json.dumps(old) + "\n\n")
    pull_from()
    path.write_text(json.dumps(new))
    assert pull_from().requests == 1
    with landing() as open_landing:
        assert b"female" in next(iter(open_landing.bodies("Patient")))


def test_files_under_way_wait(source: Path, pull_from: Pull, landing: Callable[[], Landing]) -> None:
    """What is still being written is left for the next pull, and said."""
    (source / "a.ndjson").write_text('{"resourceType":"Patient","id":"a"}')
    (source / "b.ndjson.part").write_text('{"resourceType":"Pati')
    report = pull_from()
    assert [item.code for item in report.findings] == ["files-under-way"]
    assert names(landing()) == ["Patient/a"]
    (source / "b.ndjson.part").write_text('{"resourceType":"Patient","id":"b"}')
    (source / "b.ndjson.part").rename(source / "b.ndjson")
    assert pull_from().findings == []
    assert names(landing()) == ["Patient/a", "Patient/b"]


def test_a_file_that_is_still_being_written(
    tmp_path: Path, source: Path, landing: Callable[[], Landing]
) -> None:
    """A file that grows while it is read ends the pull and counts as not read; the next pull reads it whole."""
    path = source / "a.ndjson"
    path.write_text(
        "".join(json.dumps(resource("Patient", f"p{number:04}")) + "\n" for number in range(1500))
    )
    site = Site.model_validate(
        {"id": "files", "source": {"kind": "files", "path": source}, "state_dir": tmp_path}
    )

    def grow(type_: str, number: int) -> None:
        with path.open("a") as handle:
            handle.write(json.dumps(resource("Patient", f"later{number}")) + "\n")

    with Landing.open(site.landing_dir) as opened:
        with pytest.raises(SourceNotFhir, match=r"changed while it was read.*\.part"):
            pull(site, PLAN, opened, progress=grow)
        report = pull(site, PLAN, opened)
    assert (report.skipped, report.requests) == (0, 1)
    assert len([name for name in names(landing()) if name.startswith("Patient/later")]) == 2


def test_a_file_that_takes_the_place_of_another(
    source: Path, pull_from: Pull, landing: Callable[[], Landing]
) -> None:
    """Renamed over a done file, with its very size and time, new content is read: the hash decides."""
    path = source / "a.ndjson"
    path.write_text(json.dumps(resource("Patient", "a", active=True)) + " ")
    pull_from()
    stamp = path.stat().st_mtime_ns
    new = source / "a.ndjson.part"
    new.write_text(json.dumps(resource("Patient", "a", active=False)))
    os.utime(new, ns=(stamp + 1, stamp + 1))
    new.rename(path)
    assert pull_from().outcome.changed == 1
    with landing() as opened:
        assert [b"false" in body for body in opened.bodies("Patient")] == [True]


@pytest.mark.parametrize("ending", ["gz", "zst"])
@pytest.mark.parametrize("kind", ["ndjson", "json"])
def test_a_packed_file_with_a_damaged_byte(
    source: Path, pull_from: Pull, landing: Callable[[], Landing], ending: str, kind: str
) -> None:
    """It ends the pull by its name and is not taken for done; brought again whole, it is read."""
    entries = [{"resource": resource("Patient", f"p{number:04}", x=number * 7919)} for number in range(300)]
    bodies = [json.dumps(entry["resource"]) for entry in entries]
    plain = json.dumps(resource("Bundle", "b", entry=entries)) if kind == "json" else "\n".join(bodies)
    pack = gzip.compress if ending == "gz" else zstandard.ZstdCompressor(write_checksum=True).compress
    whole = pack(plain.encode())
    damaged = bytearray(whole)
    damaged[len(whole) * 3 // 4] ^= 0x10
    path = source / f"a.{kind}.{ending}"
    for _ in range(2):
        path.write_bytes(damaged)
        with pytest.raises(SourceNotFhir, match="damaged") as caught:
            pull_from()
        assert caught.value.where == path.name
    path.write_bytes(whole)
    pull_from()
    assert len(names(landing())) == 300
