"""Run folders: made with their study and site, opened again, and run from the first stage to the last."""

from __future__ import annotations

import datetime as dt
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

from fhir_adapter import __version__
from fhir_adapter.errors import (
    RunDirError,
    RunLocked,
    StudyFileError,
)
from fhir_adapter.pipeline.from_site import with_source
from fhir_adapter.pipeline.run import STAGES, Run, Settings
from fhir_adapter.rundir import RunDir, private_dir, write_atomic, write_json
from fhir_adapter.runlog import RunLog
from fhir_adapter.site import load_site
from fhir_adapter.study import load_study
from fhir_adapter.yamlfile import open_questions

__all__ = ["new_run", "open_run", "run_all"]

#: Packages whose version can change a number or a byte of the report.
_PACKAGES = ("pandas", "numpy", "scipy", "lifelines", "statsmodels", "pyarrow", "matplotlib", "jinja2", "msgspec",
             "fhirpathpy", "fhir.resources")  # fmt: skip


#: Folder of a run with the study's own views and concept maps.
OWN_FILES = "study"


def _versions() -> dict[str, str]:
    found = {"fhir_adapter": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # pragma: no cover - all are dependencies
            found[name] = "missing"
    return found


def _decided(study_file: Path) -> None:
    """Refuses a study with open questions: what stands there is nobody's decision."""
    questions = open_questions(study_file.read_bytes())
    if questions:
        raise StudyFileError(
            f"{len(questions)} questions are not decided yet, the first: {questions[0].question}",
            where=f"{study_file.name}:{questions[0].line}",
            remedy="`fhir-adapter study validate` lists them; answer each and take its mark (# DECIDE:) away.",
        )


def new_run(study_file: Path, site_file: Path, out: Path, settings: Settings) -> Run:
    """Makes a run folder `<out>/<study>/<run id>/` after the study and site files were checked.

    Raises:
        StudyFileError, SiteFileError, UsageError: before anything is written.
    """
    study, digest = load_study(study_file)
    _decided(study_file)
    site = with_source(load_site(site_file), settings.source)
    # Absolute, so that a later stage finds the landing from whatever folder it is started in.
    site = site.model_copy(update={"state_dir": site.state_dir.absolute()})
    started = dt.datetime.now(dt.UTC)
    folder = RunDir.create(out, study.study.id, started.strftime("%Y%m%dT%H%M%S%fZ"))
    write_atomic(folder.path / "study.yaml", study_file.read_bytes())
    for path in (*study.mapping.view_files, *study.mapping.concept_files):
        beside = path.relative_to(study_file.parent.absolute())
        copy = private_dir(folder.path / OWN_FILES / beside.parent) / beside.name
        write_atomic(copy, path.read_bytes())
    write_json(folder.path / "site.yaml", site.model_dump(mode="json", exclude_none=True))
    manifest: dict[str, Any] = {
        "study": study.study.id,
        "study_sha256": digest,
        "site": site.id,
        "site_file": str(site_file.absolute()),
        "source": site.source.url or "files",
        "started": started.isoformat(),
        "versions": _versions(),
        "stages": {},
        "exit": None,
    }
    run = Run(folder, study, site, manifest, RunLog(folder.log, quiet=settings.quiet), settings)
    run.save()
    return run


def open_run(path: Path, settings: Settings) -> Run:
    """Opens an existing run folder.

    Raises:
        RunDirError: it is not a run folder.
    """
    folder = RunDir.open(path)
    try:
        manifest = msgspec.json.decode(folder.manifest.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise RunDirError(
            "no manifest.json that can be read", where=path.name, remedy="Name a run folder."
        ) from error
    study, digest = load_study(folder.path / "study.yaml", files=folder.path / OWN_FILES)
    if digest != manifest["study_sha256"]:
        raise RunDirError("the copy of the study file in the run folder was changed", where="study.yaml")
    # The copy was valid when it was made: what is wrong now is wrong in the file that it was made from.
    site = load_site(folder.path / "site.yaml", name=manifest.get("site_file", ""))
    return Run(folder, study, site, manifest, RunLog(folder.log, quiet=settings.quiet), settings)


def run_all(run: Run) -> int:
    """Runs every stage under the lock of the site; gives the exit status, 0 or 3.

    Raises:
        AdapterError: whatever stops a stage; the manifest then carries its status.
    """
    with run.log:
        try:
            with run.locked():
                for name in STAGES:
                    run.stage(name)
        except RunLocked as error:
            # The folder is this run's own; another run holds the site, not the folder.
            run.failed(error.exit_status, error.code, "lock")
            raise
        exceeded = run.exceeded()
        run.manifest["exit"] = {"status": 3 if exceeded else 0, "exceeded": exceeded}
        run.manifest["ended"] = dt.datetime.now(dt.UTC).isoformat()
        run.save()
        return 3 if exceeded else 0
