#!/usr/bin/env python3
"""Builds and starts the project's HAPI FHIR server, R4 or R5; needs Python, a JDK 17 or newer and Maven.

    docker/hapi/start.py                                           serve until interrupted
    docker/hapi/start.py --release r5                              the same for FHIR R5
    docker/hapi/start.py -- fhir-adapter demo --server '{base}'    serve while a command runs

The server listens on the loopback interface alone, on a port that the kernel chooses, and keeps its data in
memory unless `--data` names a folder. Jars, the compiled launcher and logs stay in the repository's `.hapi/`.
The exit status is that of the command.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["RELEASES", "HapiError", "Server", "build", "main", "missing_tools"]

SOURCE = Path(__file__).resolve().parent
REPOSITORY = SOURCE.parent.parent
HOME = REPOSITORY / ".hapi"
_MAIN = "fhiradapter.hapi.HapiServer"
#: FHIR releases that the launcher serves; one server serves one.
RELEASES = ("r4", "r5")


class HapiError(RuntimeError):
    """The server cannot be built or does not come up; the message says why."""


def missing_tools() -> list[str]:
    """Names of the programs that are needed and not on the path."""
    return [name for name in ("java", "javac", "jar", "mvn") if shutil.which(name) is None]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise HapiError(f"{Path(command[0]).name} failed with {done.returncode}:\n{tail}")


def build() -> None:
    """Fetches the jars with Maven and compiles the launcher, unless that is done and nothing has changed.

    Raises:
        HapiError: a program is missing, or Maven or the compiler fails.
    """
    if missing := missing_tools():
        raise HapiError(f"not on the path: {', '.join(missing)} (`make doctor` says how to install them)")
    sources = sorted((SOURCE / "src/main/java").rglob("*.java"))
    resources = sorted((SOURCE / "src/main/resources").iterdir())
    pom, lib, launcher = SOURCE / "pom.xml", HOME / "lib", HOME / "launcher.jar"
    HOME.mkdir(exist_ok=True)
    with (HOME / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test sessions must not build at once
        complete = lib / ".complete"
        if not complete.exists() or pom.stat().st_mtime > complete.stat().st_mtime:
            shutil.rmtree(lib, ignore_errors=True)
            _run(
                [
                    "mvn",
                    "-B",
                    "-q",
                    "dependency:copy-dependencies",
                    f"-DoutputDirectory={lib}",
                    "-DincludeScope=runtime",
                ]
            )
            complete.touch()
        inputs = [pom, complete, *sources, *resources]
        if launcher.exists() and launcher.stat().st_mtime >= max(path.stat().st_mtime for path in inputs):
            return
        classes = HOME / "classes"
        shutil.rmtree(classes, ignore_errors=True)
        _run(
            [
                "javac",
                "--release",
                "17",
                "-proc:none",
                "-nowarn",
                "-cp",
                f"{lib}/*",
                "-d",
                str(classes),
                *map(str, sources),
            ]
        )
        for path in resources:
            shutil.copy(path, classes)
        unfinished = HOME / "launcher.jar.new"
        _run(["jar", "--create", "--file", str(unfinished), "-C", str(classes), "."])
        unfinished.replace(launcher)


class Server:
    """A running server; a context manager that stops what it started and nothing else.

    Args:
        port: TCP port on 127.0.0.1; 0 for a free one.
        data: folder of the database; None keeps it in memory.
        heap: largest Java heap, as the JVM writes it.
        ready_s: seconds until it must be ready.
        properties: more system properties of the launcher, for example `{"hapi.maxPage": "50"}`.
        release: FHIR release, of `RELEASES`.

    Raises:
        HapiError: on entering, when it cannot be built or is not ready in time.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        data: Path | None = None,
        heap: str = "2g",
        ready_s: float = 300,
        properties: dict[str, str] | None = None,
        release: str = "r4",
    ) -> None:
        self.base = ""
        self._release = release
        self._ready_s = ready_s
        settings = {
            "hapi.port": str(port),
            "hapi.release": release,
            "hapi.data": str(data.resolve()) if data else "",
            **(properties or {}),
        }
        self._command = [
            "java",
            f"-Xmx{heap}",
            "-XX:+UseParallelGC",
            "-XX:TieredStopAtLevel=1",  # ready in less than half the processor time of the full compiler
            *(f"-D{name}={value}" for name, value in settings.items()),
            "-cp",
            f"{HOME / 'launcher.jar'}:{HOME / 'lib'}/*",
            _MAIN,
        ]

    def __enter__(self) -> Self:
        build()
        logs = HOME / "log"
        logs.mkdir(exist_ok=True)
        self.log = logs / f"hapi-{self._release}-{os.getpid()}.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        try:
            self.base = self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _wait(self) -> str:
        assert self._process.stdout is not None  # noqa: S101 - opened as a pipe above
        out = self._process.stdout
        text, end = b"", time.monotonic() + self._ready_s
        while b"\n" not in text.partition(b"READY ")[2]:
            readable, _, _ = select.select([out], [], [], max(0.0, end - time.monotonic()))
            if not readable:
                raise HapiError(
                    f"the server was not ready within {self._ready_s:.0f} s; its log is {self.log}"
                )
            piece = os.read(out.fileno(), 4096)
            if not piece:
                tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
                raise HapiError(f"the server ended before it was ready:\n{tail}")
            text += piece
        return text.partition(b"READY ")[2].splitlines()[0].decode().strip()

    def wait(self) -> int:
        """Waits until the server ends by itself; returns its exit status."""
        return self._process.wait()

    def stop(self) -> None:
        """Ends the server: first by the end of its stdin, then, where that does not help, by force."""
        process = self._process
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def main(arguments: list[str] | None = None) -> int:
    """Serves until interrupted, or while a command runs; `{base}` in the command becomes the base URL."""
    parser = argparse.ArgumentParser(description="Start a HAPI FHIR server on the loopback interface.")
    parser.add_argument("--release", choices=RELEASES, default="r4", help="FHIR release; default: r4")
    parser.add_argument("--port", type=int, default=0, help="TCP port; default: a free one")
    parser.add_argument("--data", type=Path, help="folder of the database; default: in memory")
    parser.add_argument("--heap", default="2g", help="largest Java heap; default: 2g")
    parser.add_argument("--build-only", action="store_true", help="fetch the jars, compile, and stop there")
    parser.add_argument(
        "command", nargs="*", metavar="COMMAND", help="runs while the server is up; write -- before it"
    )
    options = parser.parse_args(arguments)
    try:
        if options.build_only:
            build()
            return 0
        print("starting HAPI FHIR (the first time, Maven fetches it; that takes minutes)", file=sys.stderr)
        with Server(
            port=options.port, data=options.data, heap=options.heap, release=options.release
        ) as server:
            if options.command:
                return subprocess.run(
                    [part.replace("{base}", server.base) for part in options.command], check=False
                ).returncode
            print(server.base, flush=True)
            return server.wait()
    except HapiError as error:
        print(f"start.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
