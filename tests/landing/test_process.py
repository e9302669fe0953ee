"""The process that writes for a pull: what it lands is what the landing lands alone, whoever is killed when.

A batch is with it when `append` returns, and waited for by whatever comes next.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from fhir_adapter.arrivals import Arrival, Checkpoint, Outcome, arrival, gone
from fhir_adapter.errors import LandingError, RunLocked
from fhir_adapter.landing import Landing
from fhir_adapter.landing.process import EndedError, WritingProcess

pytestmark = pytest.mark.usefixtures("apart")


def patient(id_: str, version: int = 1) -> Arrival:
    """An arrival of a Patient."""
    return arrival(
        b'{"resourceType":"Patient","id":"%s","meta":{"versionId":"%d"}}' % (id_.encode(), version),
        origin="test",
    )


def mixed(chance: random.Random) -> list[Arrival]:
    """A batch of what comes from servers: new, changed, older, the same, unreadable, gone."""
    found = []
    for _ in range(chance.randrange(1, 12)):
        id_ = chance.choice("abcdefgh")
        found.append(
            chance.choice(
                [
                    patient(id_, chance.randrange(1, 5)),
                    arrival(
                        b'{"resourceType":"Observation","id":"%s","subject":{"reference":"Patient/%s"},'
                        b'"encounter":{"reference":"Encounter/v"},"valueInteger":%d}'
                        % (id_.encode(), id_.encode(), chance.randrange(3)),
                        origin="test",
                    ),
                    arrival(b'{"resourceType":"Patient","id":', origin=f"test:{chance.randrange(5)}"),
                    gone(chance.choice(["Patient", "Observation"]), id_),
                ]
            )
        )
    return found


def rows(folder: Path) -> dict[str, list[Any]]:
    """Every row of every table of the index, but for its identity, which is another one each time."""
    index = sqlite3.connect(folder / "index.sqlite")
    try:
        tables = [row[0] for row in index.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        found = {name: sorted(index.execute(f"SELECT * FROM {name}"), key=repr) for name in tables}  # noqa: S608 - names of tables
        return {name: [row for row in rows if row[0] != "identity"] for name, rows in found.items()}
    finally:
        index.close()


def segments(folder: Path) -> dict[str, bytes]:
    """The bytes of every segment."""
    return {path.name: path.read_bytes() for path in (folder / "segments").iterdir()}


def writers() -> list[psutil.Process]:
    """The writing processes of this one."""
    return [child for child in psutil.Process().children() if "landing.process" in " ".join(child.cmdline())]


def handed_over(landing: Landing, items: list[Arrival], *marks: Checkpoint) -> Outcome:
    """Has a batch written by the process, and waits for it."""
    told = landing.append(items, marks, apart=True)
    told.add(landing.settle())
    return told


@pytest.mark.parametrize("seed", range(3))
def test_lands_the_same(tmp_path: Path, seed: int) -> None:
    """Rows, bytes, outcomes and checkpoints are those of a landing that writes alone, over many segments."""
    chance = random.Random(seed)
    one, other = tmp_path / "one", tmp_path / "other"
    with Landing.open(one, segment_bytes=500) as alone, Landing.open(other, segment_bytes=500) as helped:
        first, second = Outcome(), Outcome()
        for number in range(60):
            batch, mark = mixed(chance), Checkpoint(f"k{number % 7}", {"since": number})
            first.add(alone.append(batch, mark))
            # Batches that are not for the process come between: both write on where the other ended.
            second.add(helped.append(batch, mark, apart=chance.random() < 0.7))
            if chance.random() < 0.2:
                assert alone.sequence == helped.sequence
            if chance.random() < 0.2:
                assert alone.mark_deleted("Patient", "a") == helped.mark_deleted("Patient", "a")
            if chance.random() < 0.2:
                assert alone.retire_unreadable("test:1", set()) == helped.retire_unreadable("test:1", set())
            if chance.random() < 0.2:
                second.add(helped.settle())
                assert first == second
        assert len(writers()) == 1
        second.add(helped.settle())
        assert first == second
        assert helped.settle() == Outcome(), "it is told once"
    assert not writers(), "it ends with the landing"
    assert rows(one) == rows(other)
    assert segments(one) == segments(other)
    assert len(segments(one)) > 3
    assert stat.S_IMODE((other / "writer.lock").stat().st_mode) == 0o600
    with Landing.open(other) as landing:
        landing.verify()


@pytest.mark.parametrize("written", [False, True], ids=["before", "after"])
def test_the_process_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool) -> None:
    """The pull fails and says why; the batch it was at is there or is not, and the landing is whole."""
    with Landing.open(tmp_path / "site") as landing:
        landing.append([patient("a")], apart=True)
        landing.settle()
        with monkeypatch.context() as patch:
            if written:
                patch.setattr(WritingProcess, "answer", then_ended(WritingProcess.answer))
            else:
                writers()[0].kill()
            with pytest.raises(LandingError, match="the process that writes the landing has ended"):
                handed_over(landing, [patient("b")], Checkpoint("k", {}))
        assert not writers()
        assert landing.sequence == (2 if written else 1)
        assert (landing.checkpoint("k") is not None) == written
        assert handed_over(landing, [patient("b"), patient("c")]).unchanged == int(written)
        landing.append([patient("d")])
        assert [item.id for item in landing.current()] == ["a", "b", "c", "d"]
        assert landing.verify() == 4


def then_ended(answer: Callable[..., Any]) -> Callable[..., Any]:
    """An answer after which the process is gone."""

    def wrapped(*arguments: Any) -> Any:
        answer(*arguments)
        raise EndedError

    return wrapped


_NEXT: dict[str, Callable[[Landing], Any]] = {
    "settle": lambda landing: landing.settle(),
    "append": lambda landing: landing.append([patient("x")], Checkpoint("x", {})),
    "append-apart": lambda landing: landing.append([patient("x")], Checkpoint("x", {}), apart=True),
    "known": lambda landing: landing.known("Patient"),
    "versions": lambda landing: landing.versions("Patient", ["Patient/b"]),
    "checkpoint": lambda landing: landing.checkpoint("k"),
    "sequence": lambda landing: landing.sequence,
    "bodies": lambda landing: list(landing.bodies("Patient")),
    "missing": lambda landing: landing.missing_references(["Encounter"]),
    "deleted": lambda landing: landing.mark_deleted("Patient", "b"),
    "unreadable": lambda landing: landing.retire_unreadable("test", set()),
    "counts": lambda landing: landing.counts(),
    "purge": lambda landing: landing.purge(["Patient/a"]),
}


@pytest.mark.parametrize("what", _NEXT)
def test_the_disk_is_full(tmp_path: Path, what: str) -> None:
    """Whatever comes next says what the system says; nothing of the batch lands, nor of the next, and then all does."""
    with Landing.open(tmp_path / "site") as landing:
        landing.append([patient("a")], apart=True)
        landing.settle()
        before = segments(tmp_path / "site")
        writers()[0].rlimit(psutil.RLIMIT_FSIZE, (100, psutil.RLIM_INFINITY))
        landing.append([patient("b"), patient("c")], Checkpoint("k", {}), apart=True)
        with pytest.raises(LandingError, match=r"the landing cannot be written \(.*File too large"):
            _NEXT[what](landing)
        assert segments(tmp_path / "site") == before
        assert (landing.sequence, landing.checkpoint("k"), landing.checkpoint("x")) == (1, None, None)
        writers()[0].rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
        assert handed_over(landing, [patient("d")]) == Outcome(new=1)
        assert [item.id for item in landing.current()] == ["a", "d"]
        assert landing.verify() == 2


def fails_at_the_end(folder: Path, error: Exception | None) -> None:
    """Leaves a landing whose last batch cannot be written, perhaps by an error."""
    with Landing.open(folder) as landing:
        handed_over(landing, [patient("b")])
        writers()[0].rlimit(psutil.RLIMIT_FSIZE, (100, psutil.RLIM_INFINITY))
        landing.append([patient("c")], apart=True)
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [None, KeyError("an error")])
def test_closed_while_it_writes(tmp_path: Path, error: Exception | None) -> None:
    """Closing waits for what is under way and says if it fails; where there is an error already, that is told."""
    with Landing.open(tmp_path / "site") as landing:
        landing.append([patient("a")], apart=True)
    assert not writers()
    with pytest.raises(LandingError if error is None else KeyError):
        fails_at_the_end(tmp_path / "site", error)
    assert not writers()
    with Landing.open(tmp_path / "site") as landing:
        assert [item.id for item in landing.current()] == ["a", "b"]


def test_what_is_read_before_it_has_landed(tmp_path: Path) -> None:
    """What was known before a pull is told without waiting: the process is stopped, and the answer comes."""
    with Landing.open(tmp_path / "site") as landing:
        landing.append([patient("a")])
        before = landing.sequence
        handed_over(landing, [patient("b")])
        late = threading.Timer(20, writers()[0].resume)
        writers()[0].suspend()
        late.start()
        landing.append([patient("c")], apart=True)
        assert landing.known("Patient", until=before) == {"a"}
        assert late.is_alive()
        late.cancel()
        writers()[0].resume()
        assert landing.known("Patient") == {"a", "b", "c"}


def test_an_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control-C while the process writes: it is ended, and the landing is whole."""

    def interrupted(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    with Landing.open(tmp_path / "site") as landing:
        handed_over(landing, [patient("a")])
        with monkeypatch.context() as patch:
            patch.setattr(WritingProcess, "_read", interrupted)
            with pytest.raises(KeyboardInterrupt):
                handed_over(landing, [patient("b")])
        assert not writers()
        landing.append([patient("b")])
        assert [item.id for item in landing.current()] == ["a", "b"]
        assert landing.verify() == 2


def test_no_process_can_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The landing writes alone."""

    def refused(*arguments: Any, **options: Any) -> Any:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refused)
    with Landing.open(tmp_path / "site") as landing:
        assert landing.append([patient("a")], apart=True).new == 1
        assert landing.verify() == 1


def test_a_process_that_does_not_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends before it is ready is not used; the landing writes alone."""
    monkeypatch.setattr("fhir_adapter.landing.process._PROGRAM", "raise SystemExit({path!r} and 1)")
    with Landing.open(tmp_path / "site") as landing:
        for id_ in "abc":
            assert landing.append([patient(id_)], apart=True).new == 1
        assert landing.verify() == 3


def test_a_defect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """An error that nobody foresaw is told by class and place, and not by its text, which may quote a resource."""
    wrong = """
import sys; sys.path[:] = {path!r}
from fhir_adapter.landing import process
def write(*arguments): raise ValueError(repr(arguments))
process.write = write
process.main()
"""
    monkeypatch.setattr("fhir_adapter.landing.process._PROGRAM", wrong)
    with Landing.open(tmp_path / "site") as landing:
        with pytest.raises(LandingError, match="the process that writes the landing has ended"):
            handed_over(landing, [patient("zqcanary-1")])
        assert landing.verify() == 0
    err = capfd.readouterr().err
    assert err.startswith("fhir-adapter, writing the landing: defect: ValueError at _done:")
    assert "zqcanary" not in err
    assert err.count("\n") == 1


def test_what_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is started for a few resources, for those of many bytes, nor for what is not for another process."""
    monkeypatch.setattr("fhir_adapter.landing.appender.MANY", 3)
    with Landing.open(tmp_path / "site") as landing:
        landing.append([patient("a"), patient("b")], apart=True)
        landing.append([patient("c"), patient("d"), patient("e")])
        monkeypatch.setattr(
            "fhir_adapter.landing.appender.LARGE", sum(len(patient(id_).body) for id_ in "fgh") - 1
        )
        landing.append([patient("f"), patient("g"), patient("h")], apart=True)
        assert not writers()
        assert landing.verify() == 8
    assert not (tmp_path / "site" / "writer.lock").exists()


_KILLED = """
import os, pathlib, signal, sys, time
from fhir_adapter.landing import appender as module
from fhir_adapter.arrivals import Checkpoint, arrival
from fhir_adapter.landing import Landing, process

folder, how = pathlib.Path(sys.argv[1]), sys.argv[2]
ready, write = process.WritingProcess.ready, os.write
module.MANY = 1
process.WritingProcess.ready = lambda self: ready(self, 60)
item = lambda name: arrival(b'{"resourceType":"Patient","id":"' + name + b'"}', origin="test")

landing = Landing.open(folder)
landing.append([item(b"a")], Checkpoint("a", {}), apart=True)
landing.settle()
holder = 0
if how == "held":  # another process has the end of the pipe, too
    holder = os.fork()
    if holder == 0:
        os.closerange(0, 3)
        time.sleep(60)
        os._exit(0)
print(holder, flush=True)
sys.stdin.readline()

def killed(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

def half(descriptor, data):
    if len(data) > 20:
        write(descriptor, bytes(data[: len(data) // 2]))
        killed()
    return write(descriptor, data)

process.WritingProcess._read = killed
if how != "whole":
    os.write = half
landing.append([item(b"b")], Checkpoint("b", {}), apart=True)
landing.settle()
"""


@pytest.mark.parametrize("how", ["whole", "half", "held"])
def test_the_run_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Its process is waited for: it lands the batch that it has whole, and no half of one; nobody writes beside it."""
    folder = tmp_path / "site"
    run = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(folder), how],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert run.stdout is not None
    holder = int(run.stdout.readline())
    index = sqlite3.connect(folder / "index.sqlite", isolation_level=None)
    try:
        index.execute("BEGIN IMMEDIATE")  # which lets the process wait with its batch
        run.communicate("go on\n")
        assert run.returncode == -signal.SIGKILL
        if how == "whole":
            with monkeypatch.context() as patch:
                patch.setattr("fhir_adapter.landing.lock._LAST_BATCH_S", 0.0)
                with pytest.raises(RunLocked, match="a process of a run that was killed still writes"):
                    Landing.open(folder)
        index.close()
        with Landing.open(folder) as landing:
            whole = how == "whole"
            assert [item.id for item in landing.current()] == (["a", "b"] if whole else ["a"])
            assert (landing.checkpoint("b") is not None) == whole
            assert handed_over(landing, [patient("b"), patient("c")]).new == 2 - whole
            landing.verify()
    finally:
        index.close()
        if holder:
            os.kill(holder, signal.SIGKILL)


def test_purged_while_it_is_there(tmp_path: Path) -> None:
    """A purge puts other files in the place of segments; what comes afterwards lands in those."""
    with Landing.open(tmp_path / "site") as landing:
        landing.append([patient("a"), patient("b")], apart=True)
        landing.purge(["Patient/a"])
        landing.append([patient("c")], apart=True)
        assert [item.id for item in landing.current()] == ["b", "c"]
        landing.verify()
