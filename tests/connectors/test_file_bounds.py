"""How much a drop folder may bring: what is too much ends the pull, whatever it was packed to."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard

PACK = {"gz": gzip.compress, "zst": zstandard.ZstdCompressor().compress}


def lines(prefix: str, number: int) -> bytes:
    """NDJSON of so many patients, some 50 bytes each."""
    patients = ({"resourceType": "Patient", "id": f"{prefix}{index:06}"} for index in range(number))
    return b"".join(json.dumps(item).encode() + b"\n" for item in patients)


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize(
    "bomb",
    [
        lines("bomb", 40_000),
        b"\n" * 3_000_000,
        b'{"resourceType":"Patient","id":"x","y":"' + b"y" * 3_000_000,
    ],
    ids=["many resources", "empty lines", "one line"],
)
def test_a_bomb_in_the_folder(tmp_path: Path, operator: Any, packed: str, bomb: bytes) -> None:
    """A small file that unpacks to megabytes ends the pull with status 22 and is not done; files before it are."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.ndjson").write_bytes(lines("a", 3))
    path = source / f"b.ndjson.{packed}"
    path.write_bytes(PACK[packed](bomb))
    assert path.stat().st_size < 200_000
    files = {"kind": "files", "path": str(source)}

    def pull() -> tuple[int, str]:
        status, said = operator.pull("", source=files, max_pull_bytes=500_000)
        return status, said

    for _ in range(2):  # the second time `a` is not read again, and `b` is
        status, said = pull()
        assert (status, "max_pull_bytes (500000)" in said, path.name in said) == (22, True, True)
    landed = operator.landed()
    assert {("Patient", f"a{index:06}") for index in range(3)} <= landed
    assert len(landed) < 10_003  # of 40,000
    path.write_bytes(PACK[packed](lines("b", 5)))
    assert pull() == (0, "")
    assert operator.manifest["pull"]["skipped"] == 1
    assert ("Patient", "b000004") in operator.landed()


def test_a_document_that_unpacks_to_too_much(tmp_path: Path, operator: Any) -> None:
    """A Bundle is read no further than the limit; nothing of it lands."""
    (tmp_path / "source").mkdir()
    entries = b",".join(b'{"resource":' + line + b"}" for line in lines("b", 20_000).splitlines())
    bundle = b'{"resourceType":"Bundle","type":"collection","entry":[' + entries + b"]}"
    (tmp_path / "source" / "a.json.gz").write_bytes(gzip.compress(bundle))
    source = {"kind": "files", "path": str(tmp_path / "source")}
    status, said = operator.pull("", source=source, max_pull_bytes=100_000)
    assert (status, "max_pull_bytes" in said) == (22, True)
    assert operator.landed() == set()


def test_the_limit_is_of_all_files_together(tmp_path: Path, operator: Any) -> None:
    """What many small files bring is added up; the next pull goes on with those that are not done."""
    (tmp_path / "source").mkdir()
    for name in "abcd":
        (tmp_path / "source" / f"{name}.ndjson").write_bytes(lines(name, 1000))
    source = {"kind": "files", "path": str(tmp_path / "source")}
    one = len(lines("a", 1000))
    status, said = operator.pull("", source=source, max_pull_bytes=2 * one)
    assert (status, "c.ndjson" in said) == (22, True)
    assert len(operator.landed()) >= 2000
    assert operator.pull("", source=source, max_pull_bytes=2 * one) == (0, "")
    assert len(operator.landed()) == 4000


@pytest.mark.parametrize("line", [b"\n", b'{"resourceType":"Bundle"}\n'], ids=["empty", "empty Bundle"])
def test_lines_without_a_resource(tmp_path: Path, operator: Any, line: bytes) -> None:
    """Without max_pull_bytes too, lines that bring nothing end the pull: no number of resources would."""
    (tmp_path / "source").mkdir()
    source = {"kind": "files", "path": str(tmp_path / "source")}
    path = tmp_path / "source" / "a.ndjson.gz"
    path.write_bytes(gzip.compress(lines("a", 2) + line * (50_000 // len(line))))
    assert operator.pull("", source=source, max_page_bytes=60_000) == (0, "")
    path.write_bytes(gzip.compress(lines("a", 2) + line * (90_000 // len(line))))
    status, said = operator.pull("", source=source, max_page_bytes=60_000)
    assert (status, "of lines without a resource" in said) == (22, True)
