"""Verifying and repairing a landing through the command line: what is found, taken out, and brought again."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fhir_adapter.arrivals import Checkpoint, arrival
from fhir_adapter.cli import app
from fhir_adapter.connectors import plan_from_study, pull
from fhir_adapter.errors import LandingError, RunLocked, SourceIncomplete
from fhir_adapter.landing import Landing
from fhir_adapter.landing.migrate import SCHEMA_VERSION
from fhir_adapter.site import Site, load_site

SUBJECTS = ("a", "b", "c")


def resource(type_: str, id_: str, **content: Any) -> str:
    """A resource as a line."""
    return json.dumps({"resourceType": type_, "id": id_, **content})


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site file; its source is a folder with two files, and its landing has them."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.ndjson").write_text("\n".join(resource("Patient", name) for name in SUBJECTS))
    (source / "b.ndjson").write_text(
        "\n".join(resource("Observation", f"o-{n}", subject={"reference": f"Patient/{n}"}) for n in SUBJECTS)
    )
    path = tmp_path / "site.yaml"
    path.write_text(
        json.dumps(
            {
                "id": "site",
                "source": {"kind": "files", "path": "source"},
                "state_dir": str(tmp_path / "state"),
            }
        )
    )
    pulled(load_site(path))
    return path


def pulled(site: Site) -> list[str]:
    """Pulls, and gives what is current."""
    with Landing.open(site.landing_dir) as landing:
        pull(site, plan_from_study({"all_patients": True}), landing)
        return [f"{item.type}/{item.id}" for item in landing.current()]


def command(verb: str, site: Path) -> tuple[dict[str, Any], BaseException | None]:
    """`fhir-adapter landing …`: its answer, and the error that ends it."""
    done = CliRunner().invoke(app, ["landing", verb, "--site", str(site), "--json"])
    return json.loads(done.stdout) if done.stdout else {}, done.exception


WHOLE = [f"Observation/o-{name}" for name in SUBJECTS] + [f"Patient/{name}" for name in SUBJECTS]


def damage(folder: Path, how: str) -> None:
    """Damages a landing."""
    segment = folder / "segments" / "000001.ndjson"
    content = segment.read_bytes()
    if how == "changed":
        segment.write_bytes(content.replace(b"o-b", b"o-x"))
    elif how == "cut":
        segment.write_bytes(content[: content.index(b"o-b")])
    elif how == "cut by a byte":
        segment.write_bytes(content[:-1])
    else:
        segment.unlink()


@pytest.mark.parametrize(
    ("how", "damaged", "segments"),
    [
        ("changed", {"Observation": 1}, 0),
        ("cut", {"Observation": 2}, 1),
        ("cut by a byte", {"Observation": 1}, 1),
        ("missing", {"Observation": 3, "Patient": 3}, 1),
    ],
)
def test_what_is_damaged_is_found_taken_out_and_brought_again(
    site: Path, how: str, damaged: dict[str, int], segments: int
) -> None:
    """Verify counts it (status 22) and changes nothing; repair takes it out; the next pull has everything again."""
    where = load_site(site)
    with Landing.open(where.landing_dir) as landing:
        identity = landing.identity
    found, error = command("verify", site)
    assert (error, found["damaged"], found["bodies"]) == (None, {}, 6)
    damage(where.landing_dir, how)
    for _ in range(2):
        found, error = command("verify", site)
        assert isinstance(error, LandingError)
        assert (error.exit_status, "landing repair" in str(error)) == (22, True)
        assert (found["damaged"], found["segments"], found["index"]) == (damaged, segments, True)
    number = sum(damaged.values())
    done, error = command("repair", site)
    assert (error, done["versions"], done["current"], done["set_aside"]) == (None, number, number, "")
    found, error = command("verify", site)
    assert (error, found["bodies"]) == (None, 6 - number)
    assert [(entry["action"], entry["versions"]) for entry in found["history"]] == [("repaired", number)]
    assert pulled(where) == WHOLE
    with Landing.open(where.landing_dir) as landing:
        # What an earlier run read at its sequence number is gone: its number says nothing here any more.
        assert (landing.verify(), landing.identity != identity) == (6, True)


def test_files_that_were_cleared_away_are_missed_after_a_repair(site: Path, tmp_path: Path) -> None:
    """What a manifest names and is neither there nor whole in the landing any more ends the next pull."""
    where = load_site(site)
    manifest = {"output": [{"type": "Observation", "url": "https://ehr.example.org/b.ndjson", "count": 3}]}
    (tmp_path / "source" / "manifest.json").write_text(json.dumps(manifest))
    assert pulled(where) == WHOLE
    (tmp_path / "source" / "b.ndjson").rename(tmp_path / "b.ndjson")
    assert pulled(where) == WHOLE
    damage(where.landing_dir, "changed")
    assert command("repair", site)[1] is None
    with pytest.raises(SourceIncomplete, match="that a manifest names is not there"):
        pulled(where)
    (tmp_path / "b.ndjson").rename(tmp_path / "source" / "b.ndjson")
    assert pulled(where) == WHOLE


def test_a_whole_landing_stays_as_it_is(site: Path) -> None:
    """Nothing is damaged, so nothing is taken out, and runs keep their landing."""
    where = load_site(site)
    with Landing.open(where.landing_dir) as landing:
        identity = landing.identity
    done, error = command("repair", site)
    assert (error, done["versions"], done["checkpoints"]) == (None, 0, 0)
    with Landing.open(where.landing_dir) as landing:
        assert landing.identity == identity


@pytest.mark.parametrize("how", ["no database", "empty", "a page"])
def test_an_index_that_cannot_be_read_is_set_aside(site: Path, how: str) -> None:
    """Every command says so; repair moves all of it away, private, and the next pull makes a new landing."""
    where = load_site(site)
    index = where.landing_dir / "index.sqlite"
    content = index.read_bytes()
    index.write_bytes({"no database": b"x" * 5000, "empty": b"",
                       "a page": content[:4096] + b"\xff" * 8192 + content[12288:]}[how])  # fmt: skip
    for name in ("index.sqlite-wal", "index.sqlite-shm"):
        (where.landing_dir / name).unlink(missing_ok=True)
    if how != "empty":
        with pytest.raises(LandingError, match="landing repair"):
            Landing.open(where.landing_dir)
        assert isinstance(command("verify", site)[1], LandingError)
    done, error = command("repair", site)
    assert (error, done["set_aside"]) == (None, "set-aside-1")
    aside = where.landing_dir / "set-aside-1"
    assert (aside.stat().st_mode & 0o777, (aside / "segments" / "000001.ndjson").exists()) == (0o700, True)
    assert pulled(where) == WHOLE
    # It holds everybody, so a purge of one subject removes it.
    (site.parent / "list").write_text("a\n")
    done_purge = CliRunner().invoke(
        app, ["purge", "--site", str(site), "--subjects", str(site.parent / "list"), "--json"]
    )
    assert json.loads(done_purge.stdout)["copies"] == 1
    assert not aside.exists()


def test_only_the_subject_of_what_was_damaged_is_asked_for_again(tmp_path: Path) -> None:
    """In a landing of a server the checkpoints of other subjects stay."""
    folder = tmp_path / "site"
    with Landing.open(folder) as landing:
        landing.append(
            [
                arrival(
                    resource("Observation", f"o-{n}", subject={"reference": f"Patient/{n}"}).encode(),
                    origin="",
                )
                for n in SUBJECTS
            ],
            [Checkpoint("source", {"kind": "rest", "url": "http://server/fhir"})]
            + [Checkpoint(f"Patient/{n}|{query}", {"since": "x"}) for n in SUBJECTS for query in "12"],
        )
    damage(folder, "changed")
    site = tmp_path / "site.yaml"
    site.write_text(
        json.dumps(
            {
                "id": "site",
                "source": {"kind": "rest", "url": "http://server/fhir"},
                "state_dir": str(tmp_path),
            }
        )
    )
    done, _ = command("repair", site)
    assert (done["versions"], done["checkpoints"]) == (1, 2)
    with Landing.open(folder) as landing:
        kept = {n for n in SUBJECTS if landing.checkpoint(f"Patient/{n}|1") is not None}
        assert kept == {"a", "c"}


@pytest.mark.parametrize("moment", range(4))
def test_a_killed_repair_is_repeated(site: Path, moment: str) -> None:
    """SIGKILL at each write to disk of a repair: it can be made again, and then the landing is whole."""
    where = load_site(site)
    damage(where.landing_dir, "changed")
    script = f"""
import os, pathlib, signal
from fhir_adapter.landing import removal
from fhir_adapter.landing.repair import repair

calls = iter(range(100))
def counted(call):
    def inner(*arguments):
        if next(calls) == {moment}:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments)
    return inner
for name in ("sync_dir", "_rewrite", "_cut_log"):
    setattr(removal, name, counted(getattr(removal, name)))
repair(pathlib.Path({str(where.landing_dir)!r}))
"""
    ended = subprocess.run([sys.executable, "-c", script], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert command("repair", site)[1] is None
    assert command("verify", site)[1] is None
    assert pulled(where) == WHOLE


def test_who_holds_the_lock_is_not_disturbed(site: Path, tmp_path: Path) -> None:
    """While a pull is under way neither verifies nor repairs; without a landing there is nothing to do."""
    where = load_site(site)
    with Landing.open(where.landing_dir):
        assert isinstance(command("verify", site)[1], RunLocked)
        assert isinstance(command("repair", site)[1], RunLocked)
    other = tmp_path / "other.yaml"
    other.write_text(site.read_text().replace('"id": "site"', '"id": "other"'))
    for verb in ("verify", "repair", "migrate"):
        assert isinstance(command(verb, other)[1], LandingError)
    assert not (tmp_path / "state" / "other").exists()


def test_migrate_by_command(site: Path) -> None:
    """The command says the version of the landing."""
    found, error = command("migrate", site)
    assert (found, error) == ({"version": SCHEMA_VERSION}, None)


def test_damage_of_the_index_is_found_on_opening(site: Path) -> None:
    """An index whose pages are not what they were is not written to; a broken look-up table is made anew."""
    folder = load_site(site).landing_dir
    index = sqlite3.connect(folder / "index.sqlite")
    root, size = index.execute(
        "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_master WHERE name = 'landed_key'"
    ).fetchone()
    index.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    index.close()
    with (folder / "index.sqlite").open("r+b") as handle:
        handle.seek((root - 1) * size)
        handle.write(b"\xff" * size)
    with pytest.raises(LandingError, match="landing repair"):
        Landing.open(folder)
    done, error = command("repair", site)
    assert error is None
    assert done["set_aside"] in {"", "set-aside-1"}
    assert pulled(load_site(site)) == WHOLE
