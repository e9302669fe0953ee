"""The exception tree of the adapter; every class has a stable code and a documented exit status.

    AdapterError
    ├── UsageError              2   the command line asks for something impossible
    ├── StudyFileError         10   the study file, a view or a concept map is wrong
    ├── SiteFileError          11   the site file is wrong, or a credential is missing
    ├── SourceUnreachable      20   no answer: connection, time-out, TLS, 5xx that lasts
    ├── SourceRefused          21   the server answers 401, 403, or 404 for the base itself
    ├── SourceNotFhir          22   an answer or a file that is not FHIR
    │   └── SourceIncomplete   22   the pull ended, but not everything came
    ├── LandingError           22   the landing on disk is damaged
    ├── AccountingError        30   resources counted at the wire and at mapping disagree
    ├── WriteBackConflict      40   the server holds something else under our identity
    ├── WriteBackRefused       41   policy or the server does not allow the write
    ├── RunLocked              50   another run holds the lock
    └── RunDirError            60   a run folder is missing or not complete enough for the stage

A defect of our own (any other exception) ends with status 70; findings above the study's limits with 3.
No message carries a name, a birth date or a patient's identifier; resources are named by type and logical id
only in files inside the run folder, never in the log.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AccountingError",
    "AdapterError",
    "LandingError",
    "RunDirError",
    "RunLocked",
    "SiteFileError",
    "SourceIncomplete",
    "SourceNotFhir",
    "SourceRefused",
    "SourceUnreachable",
    "StudyFileError",
    "UsageError",
    "WriteBackConflict",
    "WriteBackRefused",
]


class AdapterError(Exception):
    """Base of every error that the adapter raises on purpose.

    Args:
        what: what happened, one sentence.
        where: the resource type, file and line, URL without query, or stage that it happened to.
        remedy: what the operator can do.
    """

    code: ClassVar[str] = "adapter"
    exit_status: ClassVar[int] = 70

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        stop = "" if self.what.endswith((".", "!", "?")) else "."
        advice = f"{stop} {self.remedy}" if self.remedy else ""
        return f"{place}{self.what}{advice}"


class UsageError(AdapterError):
    """The command line asks for something that cannot be done."""

    code = "usage"
    exit_status = 2


class StudyFileError(AdapterError):
    """The study file, or a view or concept map that it names, is not valid."""

    code = "study-file"
    exit_status = 10


class SiteFileError(AdapterError):
    """The site file is not valid, or a credential that it names is missing."""

    code = "site-file"
    exit_status = 11


class SourceUnreachable(AdapterError):
    """The source gives no usable answer: no connection, a time-out, TLS, or a server error that lasts."""

    code = "source-unreachable"
    exit_status = 20


class SourceRefused(AdapterError):
    """The source answers, and refuses: 401, 403, or 404 for the base itself."""

    code = "source-refused"
    exit_status = 21


class SourceNotFhir(AdapterError):
    """The source answers with something that is not FHIR, or a file does not hold FHIR."""

    code = "source-not-fhir"
    exit_status = 22


class SourceIncomplete(SourceNotFhir):
    """The pull ended, but what landed is not what the source says it has."""

    code = "source-incomplete"
    exit_status = 22


class LandingError(AdapterError):
    """The landing on disk is damaged, of an unknown version, or cannot be written."""

    code = "landing"
    exit_status = 22


class AccountingError(AdapterError):
    """Resources counted at the wire and at mapping do not agree."""

    code = "accounting"
    exit_status = 30


class WriteBackConflict(AdapterError):
    """The server holds something else under an identity of ours, or gives back something else."""

    code = "write-back-conflict"
    exit_status = 40


class WriteBackRefused(AdapterError):
    """The site's policy, or the server, does not allow the write."""

    code = "write-back-refused"
    exit_status = 41


class RunLocked(AdapterError):
    """Another run holds the lock of this site or run folder."""

    code = "run-locked"
    exit_status = 50


class RunDirError(AdapterError):
    """A run folder is missing, or not complete enough for the stage that was asked for."""

    code = "run-dir"
    exit_status = 60
