"""The structured log of a run: JSON lines in the run folder, progress for people on stderr.

Only counts, names of stages, types of resources, codes and statuses are logged. The events are a closed set of calls
in this package and take no text from a server, so no identifier, name or birth date can reach a log.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import structlog
from rich.console import Console

__all__ = ["RunLog"]


class RunLog:
    """Writes `run.log.jsonl` (mode 0600) and, unless quiet, one line per event to stderr."""

    def __init__(self, path: Path, *, quiet: bool = False) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._file: TextIO = os.fdopen(descriptor, "a", encoding="utf-8")
        self._console = None if quiet else Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self._log = structlog.wrap_logger(
            structlog.WriteLogger(self._file),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(sort_keys=True),
            ],
        )

    def event(self, name: str, **values: Any) -> None:
        """Logs an event with its counts."""
        self._log.info(name, **values)
        self._file.flush()
        if self._console is not None:
            shown = "  ".join(f"{key}={value}" for key, value in values.items())
            self._console.print(f"[bold]{name}[/bold]  {shown}", markup=True)

    def failed(self, code: str, exit_status: int) -> None:
        """Logs the end of a run that failed, by the code of its error; the message itself goes to stderr only."""
        self._log.error("failed", code=code, exit_status=exit_status)
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
