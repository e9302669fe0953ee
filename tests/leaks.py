"""Searches all that the tests made public for what they planted: secrets, names, numbers and birth dates.

What a test plants carries a mark: `zqcanary` in a token, password, name or identifier (in any case), a birth date in
1887. Error messages, output of commands, logs, manifests, reports, metrics and file names of the whole test run are
searched for the marks; one that is found fails the run. What must hold patient data (landing, quarantine, tables,
datasets) is left out, and so is what a test wrote as its input.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fhir_adapter.errors import AdapterError

__all__ = ["LeakSearch", "files_of_runs", "marks"]

_MARK = b"zqcanary"
#: Folders of a run that hold patient data, and are kept private for that.
_PRIVATE = frozenset({"quarantine", "tables", "datasets", "state"})
_NAMES = re.compile(
    r"(?i)\.(log|prom|openmetrics)$|\.log\.jsonl$|^(manifest|metrics|accounting|findings)[^/]*$"
)


def _encoded(mark: bytes) -> Iterable[bytes]:
    """The part of a mark's Base64 that is the same whatever stands before and after it, at each alignment."""
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + mark)
        start = {0: 0, 1: 2, 2: 3}[shift]
        end = len(text) - {0: 0, 1: 4, 2: 4}[(shift + len(mark)) % 3]
        yield text[start:end]


_PATTERN = re.compile(
    rb"(?i:zqcanary)|\b1887-\d\d-\d\d|-----BEGIN [A-Z ]*PRIVATE KEY|\beyJ[\w-]{16,}\.[\w-]+\.|"
    + b"|".join(re.escape(text) for text in _encoded(_MARK))
)


def marks(data: bytes | str | None) -> list[str]:
    """What is found in some text that may not be there."""
    if not data:
        return []
    found = _PATTERN.findall(data.encode("utf-8", "replace") if isinstance(data, str) else data)
    return sorted({item.decode("utf-8", "replace")[:40] for item in found})


def files_of_runs(base: Path) -> Iterable[Path]:
    """Logs, manifests, metrics, and everything that a run folder shows, below a folder."""
    for place, folders, names in os.walk(base):
        in_run = "manifest.json" in names
        if in_run:
            folders[:] = [name for name in folders if name not in _PRIVATE]
            for deeper, below, inner in os.walk(place):
                below[:] = [name for name in below if name not in _PRIVATE]
                yield from (Path(deeper, name) for name in inner)
            folders[:] = []
            continue
        yield from (Path(place, name) for name in names if _NAMES.search(name))


class LeakSearch:
    """The plugin; registered for a whole test run.

    Args:
        config: of the run.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.found: set[str] = set()
        self.searched = 0
        self._test = ""
        self._config = config
        self._kept: list[tuple[Any, str, Any]] = []
        search = self

        def watch(owner: Any, name: str, after: Any) -> None:
            original = getattr(owner, name)
            self._kept.append((owner, name, original))

            def wrapped(*arguments: Any, **options: Any) -> Any:
                result = original(*arguments, **options)
                after(arguments, result)
                return result

            setattr(owner, name, wrapped)

        def error(arguments: Any, result: Any) -> None:
            search.look(str(arguments[0]), "an error message")

        def process(arguments: Any, result: Any) -> None:
            command = arguments[0].args
            words = [str(word) for word in command] if isinstance(command, list | tuple) else []
            search.command(words, *result)

        def runner(arguments: Any, result: Any) -> None:
            search.look(result.stderr, "stderr of a command")

        def captured(arguments: Any, result: Any) -> None:
            search.look(result.out, "stdout of a command")
            search.look(result.err, "stderr of a command")

        watch(AdapterError, "__init__", error)
        watch(subprocess.Popen, "communicate", process)
        watch(CliRunner, "invoke", runner)
        watch(pytest.CaptureFixture, "readouterr", captured)

    def command(self, words: list[str], out: bytes | str | None, err: bytes | str | None) -> None:
        """Searches what a command printed."""
        self.look(err, "stderr of a command")
        if "view" not in words:  # it prints what it is given
            self.look(out, "stdout of a command")

    def look(self, data: bytes | str | None, what: str) -> None:
        """Searches a text."""
        if data:
            self.searched += 1
            self.found |= {f"{mark!r} in {what} ({self._test})" for mark in marks(data)}

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Notes which test runs."""
        self._test = nodeid

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Searches what a test logged and what it printed without reading it."""
        for name, text in report.sections:
            # The stub servers log what they were asked; that is a server's log, not ours.
            lines = (line for line in text.splitlines() if "werkzeug" not in line)
            self.look("\n".join(lines), name)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Searches the files, and fails the run if anything was found."""
        for owner, name, original in reversed(self._kept):
            setattr(owner, name, original)
        factory = getattr(self._config, "_tmp_path_factory", None)
        base = getattr(factory, "_basetemp", None)  # None: no test asked for a folder
        if base is not None:
            for path in files_of_runs(base):
                self._test = str(path.relative_to(base))
                if path.name != "site.yaml":
                    self.look(path.name, "a file name")
                if path.is_file():
                    self.look(path.read_bytes(), "a file")
        output = getattr(self._config, "workeroutput", None)
        if output is not None:  # one of several processes: the first one tells
            output["leaks"] = (sorted(self.found), self.searched)
        if self.found and session.exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Takes over what another process of the test run found."""
        found, searched = getattr(node, "workeroutput", {}).get("leaks", ((), 0))
        self.found |= set(found)
        self.searched += searched

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Says what was found, and how much was searched."""
        if self.found:
            terminalreporter.section(
                "PLANTED SECRETS OR IDENTIFIERS WERE FOUND", sep="*", red=True, bold=True
            )
            for line in sorted(self.found):
                terminalreporter.line(line)
        else:
            terminalreporter.line(
                f"{self.searched} texts searched for planted secrets, names and identifiers: none found"
            )
