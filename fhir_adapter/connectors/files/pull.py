"""The connector for files: NDJSON, Bundles, arrays and single resources, plain, gzipped or with Zstandard.

Files are read in the order of their names. A line of NDJSON that is not a resource lands as unreadable and
the rest goes on; a JSON document that is cut or is no FHIR ends the pull, because nobody can say what it
lacks. A file that has not changed since it was read to its end is not read again, nor is one whose content was
read to its end under another name: done files are known by their SHA-256. Whoever fills the folder writes a file
under a name that ends in `.part`, `.tmp` or `.filepart`, or begins with a dot, and renames it when it is whole;
a file that changes while it is read ends the pull. Where two files carry one resource,
the version that is newer by `meta` is current, and without versions the one that came later.

A manifest beside the files (`fhir_adapter.connectors.files.file_sets`) says what should be there: nothing of the folder
lands while a file that it names is not there, and its numbers are compared with what was read. What a site wants of
a difference holds as for a server.

The path `-` is standard input (`fhir_adapter.connectors.files.standard_input`).
"""

from __future__ import annotations

from fhir_adapter.arrivals import Landing
from fhir_adapter.connectors.files.folder import Folder
from fhir_adapter.connectors.files.reading import Reading
from fhir_adapter.connectors.files.standard_input import pull_input
from fhir_adapter.connectors.reports import Keep, Progress, PullReport, Tally, ended
from fhir_adapter.errors import SourceUnreachable
from fhir_adapter.site import STANDARD_INPUT, Site

__all__ = ["pull_files"]


def pull_files(
    site: Site,
    landing: Landing,
    *,
    full: bool = False,
    progress: Progress | None = None,
    keep: Keep | None = None,
) -> PullReport:
    """Lands what a folder or file holds, and compares it with the manifests that lie beside the files.

    Args:
        site: the site; `source.path` says where.
        landing: where it lands.
        full: read files again that have not changed.
        progress: called with the type of a batch's last resource and the number landed so far.
        keep: called with the report of a pull that ends early, which says what came.

    Returns:
        What came.

    Raises:
        SourceUnreachable: folder or file missing or not readable.
        SourceNotFhir: a file is cut, damaged or not FHIR, or there is none; files before it have landed.
        SourceIncomplete: there is more than `max_resources` or `max_pull_bytes` (unpacked), or it takes longer than
            `max_pull_s`; files before the one that is too much have landed and are done. Or a manifest names what
            is not there (nothing has landed), or other numbers than came, and the site's `on_difference` is `fail`.
        UsageError: standard input is a terminal.
    """
    place = site.source.path
    if place is None:
        raise SourceUnreachable("the site's source has no path")
    report = PullReport("files", full=full, before=landing.sequence)
    tally = Tally()
    reading = Reading(site)
    with ended(report, tally, landing, keep):
        try:
            if place == STANDARD_INPUT:
                pull_input(site, landing, report, tally, reading, progress)
            else:
                Folder(site, place, landing, report, tally, reading).pull(progress)
        finally:
            reading.searchsets.into(report)
    report.subjects = len(landing.known("Patient"))
    return report
