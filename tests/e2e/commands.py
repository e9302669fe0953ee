"""Runs `fhir-adapter` as a process of its own, forked from one that has imported it.

Importing pandas, scipy and matplotlib takes seconds, and the tests run some hundreds of commands. Each is still a
process with its own environment, folder, output and exit status; only its imports were made before. A command whose
environment matters before that (PYTHONHASHSEED, a proxy) runs in the ordinary way.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Commands"]


class Commands:
    """A process that has imported `fhir_adapter`, and forks for every command; it ends with the tests."""

    def __init__(self) -> None:
        #: Called with the arguments, standard output and standard error of every command.
        self.ended: Callable[[list[str], str, str], None] = lambda words, out, err: None
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0

    def run(
        self,
        arguments: list[str],
        *,
        cwd: Path | None,
        timeout: float,
        given: bytes = b"",
        apart: bool = False,
    ) -> tuple[int, str, str]:
        """Runs one command.

        Args:
            arguments: of `fhir-adapter`.
            cwd: its working directory.
            timeout: seconds, after which it is killed.
            given: what stands on its standard input.
            apart: the landing's writing process is waited for and used for every batch of a pull, however small.

        Returns:
            Exit status, standard output, standard error.
        """
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            Path(folder, "in").write_bytes(given)
            status = self._ask(
                {
                    "arguments": arguments, "cwd": str(cwd or Path.cwd()), "in": str(Path(folder, "in")),
                    "out": str(out), "err": str(err),
                    "env": dict(os.environ), "timeout": timeout, "apart": apart,
                }
            )  # fmt: skip
            printed = (out.read_text("utf-8"), err.read_text("utf-8"))
            self.ended(arguments, *printed)
            return status, *printed

    def _ask(self, request: dict[str, Any]) -> int:
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self._owner = os.getpid()
            self._process = subprocess.Popen(
                [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the process that forks the commands has died"
        return int(answer)

    @property
    def pid(self) -> int | None:
        """The process that forks; the command that is running is its child."""
        return self._process.pid if self._process is not None else None

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None and self._owner == os.getpid():
            self._process.communicate()
            self._process = None


def _command(request: dict[str, Any]) -> None:
    """Becomes the command, in a fresh child."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(int(request["timeout"]))  # outlives nothing: an alarm kills the process that set it
    os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    os.dup2(os.open(request["in"], os.O_RDONLY), 0)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    sys.argv = ["fhir-adapter", *request["arguments"]]
    if request["apart"]:
        from fhir_adapter.landing import appender
        from fhir_adapter.landing.process import WritingProcess

        ready = WritingProcess.ready
        vars(appender)["MANY"] = 1
        WritingProcess.ready = lambda process, seconds=60: ready(process, seconds)  # type: ignore[method-assign]


def _serve() -> None:
    """Forks for each request; returns in the child alone, or at the end of all requests."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            answers.close()
            _command(request)
            from fhir_adapter.cli import main

            main()
            return
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


if __name__ == "__main__":
    import gc
    import importlib

    import scipy

    import fhir_adapter.cli
    import fhir_adapter.report.render  # noqa: F401 - imported by the commands when they come to it

    assert all(
        (scipy.optimize, scipy.sparse, scipy.special, scipy.stats)
    )  # which loads them, as the commands do
    # The models by which views are compiled; a command builds those that it comes to, which takes half a second.
    for type_ in ("adverseevent", "bodystructure", "condition", "consent", "encounter", "imagingstudy", "medication",
                  "medicationadministration", "medicationstatement", "observation", "patient", "procedure",
                  "researchstudy", "researchsubject"):  # fmt: skip
        importlib.import_module(f"fhir.resources.R4B.{type_}")
    importlib.import_module("pyarrow.pandas_compat")
    gc.freeze()  # a collection of a child would touch, and so copy, every page of what was imported
    _serve()
