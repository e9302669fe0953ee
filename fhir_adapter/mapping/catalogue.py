"""The views of a study by name: those that ship, in the shape of the release, and those of the study itself.

`mappings/views/` holds the views, `mappings/views/r5/` those whose shape R5 changed, under the same names and with the
same columns, and views of what only R5 has. A study may bring view files of its own (`mapping.view_files`): one takes
the place of the shipped view of its name, so it must have that view's columns.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from fhir_adapter.assets import asset
from fhir_adapter.errors import StudyFileError
from fhir_adapter.mapping.release import Release
from fhir_adapter.mapping.views import CompiledView, load_view
from fhir_adapter.study import Study

__all__ = ["compiled_view", "shipped_views", "view_names"]

#: Views that are read only where the study names them as the source of its randomisation.
_RANDOMISATION = "dm_randomisation_"


@cache
def shipped_views(release: Release = "R4") -> dict[str, Path]:
    """Name → file of every view that ships, in the shape of a release."""
    folder = asset("mappings", "views")
    found = {path.stem: path for path in sorted(folder.glob("*.json"))}
    if release == "R5":
        found |= {path.stem: path for path in sorted((folder / "r5").glob("*.json"))}
    return found


def view_names(study: Study, release: Release = "R4") -> tuple[str, ...]:
    """Names of the views that a study uses.

    Raises:
        StudyFileError: a view that does not ship.
    """
    shipped = sorted(shipped_views(release))
    wanted = study.mapping.views
    randomisation = f"{_RANDOMISATION}{study.randomisation.source}" if study.randomisation else None
    if wanted is None:
        # A view of every Observation costs time that only a study which needs it should pay.
        return tuple(name for name in shipped if not name.startswith(_RANDOMISATION) or name == randomisation)
    if randomisation in shipped:
        wanted = [*wanted, randomisation]
    missing = sorted(set(wanted) - set(shipped))
    if missing:
        raise StudyFileError(
            f"no view {', '.join(missing)}", where="mapping.views", remedy=f"There are {', '.join(shipped)}."
        )
    return tuple(sorted(set(wanted)))


@cache
def _load(path: Path, release: Release) -> CompiledView:
    return load_view(path, release="R5" if release == "R5" else "R4")


@cache
def _own(path: Path, shipped: Path, release: Release) -> CompiledView:
    """A view of the study, which has to have what the domains read of the shipped one."""
    made, base = _load(path, release), _load(shipped, release)
    if made.resource != base.resource:
        raise StudyFileError(
            f"it reads {made.resource}, the shipped view of its name reads {base.resource}",
            where=f"view {path.name}",
        )
    has = {column.name for column in made.columns}
    missing = [column.name for column in base.columns if column.name not in has]
    if missing:
        raise StudyFileError(
            f"the columns {', '.join(missing)} are missing",
            where=f"view {path.name}",
            remedy="A view of a study takes the place of the shipped one: copy that, and change its paths.",
        )
    return made


def compiled_view(name: str, study: Study, release: Release = "R4") -> CompiledView:
    """A view of a study, checked and compiled for a release.

    Raises:
        StudyFileError: the study's own view is not a view, or lacks what is read of it.
    """
    shipped = shipped_views(release)
    own = {path.stem: path for path in study.mapping.view_files}
    strange = sorted(set(own) - set(shipped))
    if strange:
        raise StudyFileError(
            f"nothing reads a view {', '.join(strange)}",
            where="mapping.view_files",
            remedy=f"The name of the file says which view it stands for: {', '.join(sorted(shipped))}.",
        )
    if name in own:
        return _own(own[name], shipped[name], release)
    return _load(shipped[name], release)
