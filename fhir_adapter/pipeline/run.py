"""A run: its folder, its stages, and how it ended."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pandas as pd

from fhir_adapter.accounting import QUARANTINED, Disposition, Finding, check_sums, summary
from fhir_adapter.analysis.stage import analyse
from fhir_adapter.connectors import PullReport, plan_from_study, pull
from fhir_adapter.datasets import metadata, read_dataset, write_dataset
from fhir_adapter.derive.stage import derive
from fhir_adapter.errors import (
    AdapterError,
    RunDirError,
    WriteBackRefused,
)
from fhir_adapter.export import render_definition, study_tables
from fhir_adapter.landing import Landed, Landing
from fhir_adapter.mapping.catalogue import compiled_view, view_names
from fhir_adapter.mapping.domains.consent import REFUSED
from fhir_adapter.mapping.release import Release, release_of_version
from fhir_adapter.mapping.stage import Mapped, map_resources
from fhir_adapter.pipeline.accounts import check_wire, set_aside
from fhir_adapter.pipeline.from_site import identity_key, own_maps, write_url
from fhir_adapter.purge import forget_withdrawn
from fhir_adapter.results import Results, read_results
from fhir_adapter.rundir import RunDir, read_json, site_lock, write_atomic, write_json
from fhir_adapter.runlog import RunLog
from fhir_adapter.site import Site
from fhir_adapter.study import Study
from fhir_adapter.writeback.build import build_resources, lineage_manifest
from fhir_adapter.writeback.release import refuse_release
from fhir_adapter.writeback.submit import plan, retract, submit
from fhir_adapter.writeback.transport import WriteClient

__all__ = ["STAGES", "Run", "Settings"]

STAGES = ("pull", "map", "derive", "analyse", "report", "write-back")

_ADAM = tuple(name for name, dataset in metadata().items() if dataset.model == "ADaM")
_SDTM = tuple(name for name, dataset in metadata().items() if dataset.model == "SDTM")


@dataclass(frozen=True)
class Settings:
    """How a run was asked for.

    Attributes:
        source: URL or folder in place of the site's source.
        full: pull everything again.
        write: `no`, `dry-run` (the transaction goes into the run folder) or `yes`.
        quiet: nothing on stderr but errors.
    """

    source: str | None = None
    full: bool = False
    write: str = "no"
    quiet: bool = False


@dataclass
class Run:
    """A run folder with its study, site, manifest and log."""

    folder: RunDir
    study: Study
    site: Site
    manifest: dict[str, Any]
    log: RunLog
    settings: Settings = field(default_factory=Settings)

    # -- what the stages share ---------------------------------------------------------------------------------

    @contextmanager
    def _stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Times a stage and keeps its counts in the manifest."""
        started = dt.datetime.now(dt.UTC)
        counts: dict[str, Any] = {}
        yield counts
        seconds = (dt.datetime.now(dt.UTC) - started).total_seconds()
        self.manifest["stages"][name] = {"seconds": round(seconds, 3), **counts}
        self.save()
        self.log.event(name, **counts)

    def save(self) -> None:
        """Writes the manifest."""
        write_json(self.folder.manifest, self.manifest)

    @property
    def cutoff(self) -> dt.date:
        """The data cut-off: that of the study, or for a rolling one the day of the pull."""
        try:
            return dt.date.fromisoformat(self.manifest["data_cutoff"])
        except KeyError:
            raise RunDirError("nothing was pulled into this run yet", remedy="Run `pull` first.") from None

    def _landing(self) -> Landing:
        """The landing for reading; the lock is held by whoever started the stage.

        Raises:
            RunDirError: it is not the landing whose sequence number this run keeps.
        """
        landing = Landing.open(self.site.landing_dir, read_only=True)
        if self.manifest.get("landing", landing.identity) != landing.identity:
            landing.close()
            raise RunDirError(
                "the landing was made anew or repaired since this run pulled", remedy="Run `pull` first."
            )
        return landing

    @contextmanager
    def resources(self) -> Iterator[Callable[[str], Landed | None]]:
        """Finds resources by reference (`Type/id`, with or without a version), as this run saw them."""
        with self._landing() as landing:
            sequence = self.manifest.get("landing_sequence")

            def find(reference: str) -> Landed | None:
                type_, _, rest = reference.partition("/")
                return landing.get(type_, rest.partition("/")[0], sequence)

            yield find

    def datasets(self, names: tuple[str, ...]) -> dict[str, pd.DataFrame]:
        """Datasets that an earlier stage left."""
        return {name: read_dataset(self.folder.datasets, name) for name in names}

    def findings(self) -> list[Finding]:
        """Findings of all stages so far."""
        path = self.folder.path / "findings.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=list[Finding])
        except FileNotFoundError:
            return []

    def _keep_findings(self, stage: str, new: list[Finding]) -> None:
        kept = [item for item in self.findings() if item.stage != stage]
        write_json(self.folder.path / "findings.json", msgspec.to_builtins([*kept, *new]))

    # -- the stages --------------------------------------------------------------------------------------------

    def pull(self) -> None:
        """Connect and land: brings what the study needs from the source into the landing."""
        with self._stage("pull") as counts, Landing.open(self.site.landing_dir) as landing:
            candidates = self.study.cohort.candidates.model_dump(exclude_none=True, exclude_defaults=True)
            report = pull(
                self.site,
                plan_from_study(candidates, _resource_types(self.study)),
                landing,
                full=self.settings.full,
                keep=self._keep_failed_pull,
            )
            self.manifest.pop("failed_pull", None)
            check_wire(report, landing.counts())
            cutoff = self.study.study.data_cutoff
            self.manifest["data_cutoff"] = (
                dt.datetime.now(dt.UTC).date().isoformat() if cutoff == "rolling" else cutoff.isoformat()
            )
            self.manifest["landing_sequence"] = landing.sequence
            self.manifest["landing"] = landing.identity
            self.manifest["pull"] = report.to_dict()
            counts.update(
                subjects=report.subjects, received=sum(report.received.values()), requests=report.requests
            )
            found = [
                Finding(code=item.code, text=item.text, stage="pull", detail=str(item.number))
                for item in report.findings
            ]
            counts["findings"] = len(found)
            self._keep_findings("pull", found)

    def _keep_failed_pull(self, report: PullReport) -> None:
        """What a pull brought before it failed, and what is missing, stay in the manifest."""
        self.manifest["failed_pull"] = report.to_dict()
        self.save()

    def map(self) -> None:
        """Map: views and concept maps turn resources into SDTM-like rows; every resource gets its disposition."""
        with self._stage("map") as counts:
            sequence = self.manifest.get("landing_sequence")
            if sequence is None:
                raise RunDirError("nothing was pulled into this run yet", remedy="Run `pull` first.")
            resources, mapped = self._mapped(sequence)
            if self.site.on_withdrawal == "purge":
                found = self._forget_withdrawn(mapped)
                if found:
                    counts["purged"] = len(found)
                    resources, mapped = self._mapped(sequence)
                    mapped.findings.extend(found)
            self.manifest["concept_maps"] = own_maps(self.site)
            with self._landing() as landing:
                landed = landing.counts(sequence)
                aside = [set_aside(item) for item in landing.left_out(sequence)]
                broken = {(item.type, item.id): item.body for item in landing.unreadable(sequence)}
            dispositions = [*mapped.dispositions, *aside]
            bodies = {(item.type, item.id): item.body for item in resources} | broken
            for name, frame in mapped.datasets.items():
                write_dataset(self.folder.datasets, name, frame)
            self._tables(mapped.subjects, dispositions)
            self._quarantine(dispositions, bodies, mapped.findings)
            self._keep_findings("map", mapped.findings)
            disposed = summary(dispositions)
            wire = {type_: row["total"] for type_, row in landed.items()}
            write_json(
                self.folder.accounting,
                {"landed": landed, "disposed": disposed, "total": sum(wire.values())},
            )
            outcomes = pd.Series([item.outcome for item in dispositions], dtype="object").value_counts()
            counts.update({str(key): int(value) for key, value in sorted(outcomes.items())})
            counts["findings"] = len(mapped.findings)
            check_sums(wire, disposed)

    def _mapped(self, sequence: int) -> tuple[list[Landed], Mapped]:
        """What the run sees of the landing, and what the mapping makes of it."""
        with self._landing() as landing:
            resources = list(landing.current(sequence))
        return resources, map_resources(
            resources,
            self.study,
            key=identity_key(self.site),
            concept_dirs=self.site.concept_dirs,
            release=self._release(),
        )

    def _forget_withdrawn(self, mapped: Mapped) -> list[Finding]:
        """Purges and bars who denied or withdrew consent, and other records of who did before; findings say so."""
        dm = mapped.datasets["DM"]
        refused = set(dm.loc[dm["CONSENT"].isin(REFUSED), "USUBJID"])
        leaving = set(mapped.subjects.loc[mapped.subjects["USUBJID"].isin(refused), "PATKEY"])
        with self._landing() as landing:
            leaving |= landing.linked_to_barred()
        if not leaving:
            return []
        done = forget_withdrawn(self.site, self.folder.path.parent.parent, leaving, self.folder)
        self.save()  # the purge has written the manifest of every folder that held them, this one's too
        findings = [
            Finding(
                code="withdrawn-purged",
                text="subjects who denied or withdrew consent were taken out of landing and run folders and barred",
                detail=str(done.landing.subjects),
            )
        ]
        if done.standing and self.settings.write != "yes":
            findings.append(
                Finding(
                    code="withdrawn-results-stand",
                    text="results with a subject who withdrew stand on the server: write back anew, or retract them",
                    detail=str(done.standing),
                )
            )
        return findings

    def _release(self) -> Release | None:
        """The FHIR release of the source: by the site file, else by the server; files tell by themselves."""
        server: dict[str, str] = self.manifest.get("pull", {}).get("server") or {}
        return self.site.fhir_version or release_of_version(server.get("fhir_version"))

    def _tables(self, subjects: pd.DataFrame, dispositions: list[Disposition]) -> None:
        for name, frame in (
            ("subjects", subjects),
            ("dispositions", pd.DataFrame([msgspec.to_builtins(item) for item in dispositions])),
        ):
            write_dataset(self.folder.tables, name, frame)

    def _quarantine(
        self,
        dispositions: list[Disposition],
        bodies: dict[tuple[str, str], bytes],
        findings: list[Finding],
    ) -> None:
        """One line per quarantined resource: reason, JSON path, a sentence, and the resource as it came."""
        said = {(item.resource, item.code): item.text for item in findings}
        lines = []
        for item in dispositions:
            if item.outcome == "quarantined":
                head = {
                    "type": item.type,
                    "id": item.id,
                    "version": item.version,
                    "reason": item.reason,
                    "path": item.path,
                    "text": said.get(
                        (f"{item.type}/{item.id}", item.reason),
                        f"a resource that {QUARANTINED.get(item.reason, 'cannot be used')}",
                    ),
                }
                body = bodies.get((item.type, item.id), b"").decode("utf-8", "replace")
                lines.append(msgspec.json.encode(head | {"resource": body}) + b"\n")
        write_atomic(self.folder.quarantine / "quarantine.ndjson", b"".join(lines))

    def derive(self) -> None:
        """Derive: RECIST, endpoints and adverse events as ADaM datasets, with lineage."""
        with self._stage("derive") as counts:
            derived = derive(self.datasets(_SDTM), self.study, cutoff=self.cutoff)
            for name, frame in derived.datasets.items():
                write_dataset(self.folder.datasets, name, frame)
            self._keep_findings("derive", derived.findings)
            counts.update(
                rows=sum(len(frame) for frame in derived.datasets.values()), findings=len(derived.findings)
            )

    def analyse(self) -> None:
        """Analyse: every number of the report, in results.json."""
        with self._stage("analyse") as counts:
            results = analyse(self.datasets(_SDTM + _ADAM), self.study, self.cutoff.isoformat())
            write_atomic(self.folder.results, results.encode())
            counts["results"] = len(results.results)

    def results(self) -> Results:
        """The typed results that `analyse` left."""
        return read_results(self.folder.results)

    def report(self) -> None:
        """Report: one self-contained HTML file and its figures, and the page that defines the datasets."""
        # Matplotlib is half of what takes a command long to start; no other stage draws.
        from fhir_adapter.report.render import render_report

        with self._stage("report") as counts:
            results = self.results()
            datasets = self.datasets(_SDTM + _ADAM)
            try:
                accounting = msgspec.json.decode(self.folder.accounting.read_bytes())
            except OSError as error:
                raise RunDirError("accounting.json is missing", remedy="Run `map` first.") from error
            path = render_report(
                study=self.study,
                results=results,
                datasets=datasets,
                accounting=accounting,
                findings=self.findings(),
                manifest=self.manifest,
                flow=_flow(results),
                template_dirs=self.site.template_dirs,
                folder=self.folder.path,
            )
            write_atomic(
                self.folder.definition,
                render_definition(study_tables(datasets, self.study), self.study).encode(),
            )
            counts["bytes"] = path.stat().st_size

    def write_back(self) -> None:
        """Write back: one transaction to the server, read back and compared; or into the folder for a dry run."""
        mode = self.settings.write
        if mode == "no":
            return
        if mode == "yes" and self.site.write_back.policy != "allowed":
            raise WriteBackRefused(
                "the site file does not allow writing back",
                where="write_back.policy",
                remedy="Set it to `allowed`, or use --dry-run.",
            )
        with self._stage("write-back") as counts:
            resources = self._outputs()
            if mode == "yes":
                with WriteClient(self.site, write_url(self.site)) as client:
                    refuse_release(client)
                    outcome = plan(client, resources)
                    # Before it is sent: a transaction that is refused can be looked at.
                    write_json(self.folder.writeback, {"mode": mode, **outcome.as_data()})
                    # Whatever becomes of it: until it is retracted it may stand on the server.
                    self.manifest["written_back"] = True
                    self.save()
                    outcome = submit(client, outcome, resources)
            else:
                outcome = plan(None, resources)
            write_json(self.folder.writeback, {"mode": mode, **outcome.as_data()})
            counts["written"] = outcome.written if mode == "yes" else 0
            counts["unchanged"] = sum(action == "unchanged" for action in outcome.actions.values())

    def _outputs(self) -> list[dict[str, Any]]:
        sdtm = self.datasets(_SDTM)
        refused = set(sdtm["DM"].loc[sdtm["DM"]["CONSENT"].isin(REFUSED), "USUBJID"])
        sdtm = {name: frame[~frame["USUBJID"].isin(refused)] for name, frame in sdtm.items()}
        try:
            report = self.folder.report.read_bytes()
        except OSError as error:
            raise RunDirError("report.html is missing", remedy="Run `report` first.") from error
        return build_resources(
            study=self.study,
            site=self.site.id,
            results=self.results(),
            report=report,
            results_json=self.folder.results.read_bytes(),
            manifest=lineage_manifest(sdtm, self.study, self.cutoff.isoformat()),
            research_study=self._research_study(),
            recorded=dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )

    def _research_study(self) -> str | None:
        """The study's own ResearchStudy on the server, found by the identifier of the study file."""
        coded = self.study.cohort.candidates.research_study
        if coded is None:
            return None
        with self._landing() as landing:
            for item in landing.current(types=["ResearchStudy"]):
                resource = msgspec.json.decode(item.body)
                pairs = {(one.get("system"), one.get("value")) for one in resource.get("identifier", [])}
                if (coded.system, coded.value) in pairs:
                    return f"ResearchStudy/{item.id}"
        return None

    def retract(self) -> dict[str, str]:
        """Deletes from the server what this study and site wrote."""
        if self.site.write_back.policy != "allowed":
            raise WriteBackRefused("the site file does not allow writing back", where="write_back.policy")
        if self.folder.writeback.exists():
            keys = list(read_json(self.folder.writeback)["actions"])
        else:
            keys = [f"{item['resourceType']}/{item['id']}" for item in self._outputs()]
        with WriteClient(self.site, write_url(self.site)) as client:
            outcome = retract(client, keys)
        write_json(self.folder.path / "retraction.json", outcome)
        self.manifest["written_back"] = False
        self.save()
        return outcome

    # -- the end -----------------------------------------------------------------------------------------------

    def exceeded(self) -> list[str]:
        """Limits of the study that the findings exceed, as sentences; any makes the exit status 3."""
        limits, findings = self.study.limits, self.findings()
        quarantined = sum(
            sum(row["quarantined"].values())
            for row in msgspec.json.decode(self.folder.accounting.read_bytes())["disposed"].values()
        )
        unknown = sum(item.code == "unknown-code" for item in findings)
        numbers = (
            ("quarantined resources", quarantined, limits.quarantined),
            ("unknown codes", unknown, limits.unknown_codes),
            ("findings", len(findings), limits.findings),
        )
        return [
            f"{number} {name}, limit {limit}"
            for name, number, limit in numbers
            if limit is not None and number > limit
        ]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the lock of the run: one process at a time works on the runs of a site.

        The landing has a lock of its own while it is written; this one keeps two runs of a site from interleaving
        their stages and their write-backs.

        Raises:
            RunLocked: another process holds it.
        """
        with site_lock(self.site.landing_dir):
            yield

    def stage(self, name: str) -> None:
        """Runs one stage by its name on the command line."""
        stages: dict[str, Callable[[], None]] = {
            "pull": self.pull, "map": self.map, "derive": self.derive, "analyse": self.analyse,
            "report": self.report, "write-back": self.write_back,
        }  # fmt: skip
        self.manifest["exit"] = None
        # What this stage and later ones left belongs to what is now made anew.
        for later in STAGES[STAGES.index(name) :]:
            self.manifest["stages"].pop(later, None)
        self.save()
        try:
            stages[name]()
        except AdapterError as error:
            self.failed(error.exit_status, error.code, name)
            raise
        except Exception:
            self.failed(70, "defect", name)  # never its text, which may quote data
            raise

    def failed(self, status: int, code: str, stage: str) -> None:
        """Keeps in manifest and log how the run ended."""
        self.manifest["exit"] = {"status": status, "code": code, "stage": stage}
        self.save()
        self.log.failed(code, status)


def _flow(results: Results) -> list[dict[str, Any]]:
    display = next(item for item in results.displays if item.id == "flow")
    return [
        {
            "id": row.cells[0].results[0],
            "label": row.label,
            "n": results[row.cells[0].results[0]].value,
            "level": row.level,
        }
        for row in display.rows
    ]


def _resource_types(study: Study) -> list[str]:
    """Resource types that the study's views read; they are the same in every release."""
    return sorted({compiled_view(name, study).resource for name in view_names(study)})
