"""The only way to `mappings/` and `templates/`, in a checkout and in an installed wheel alike."""

from __future__ import annotations

from pathlib import Path

from fhir_adapter.errors import StudyFileError

__all__ = ["asset", "asset_root"]

_PACKAGE = Path(__file__).resolve().parent


def asset_root() -> Path:
    """Folder that holds `mappings/` and `templates/`: inside the wheel, or the top of a checkout."""
    packed = _PACKAGE / "_assets"
    return packed if packed.is_dir() else _PACKAGE.parent


def asset(*parts: str) -> Path:
    """Path of a shipped file or folder, for example `asset("mappings", "views")`.

    Raises:
        StudyFileError: when no such asset ships, or the parts would leave the asset folders.
    """
    root = asset_root().resolve()
    path = root.joinpath(*parts).resolve()
    if not parts or parts[0] not in {"mappings", "templates"} or not path.is_relative_to(root / parts[0]):
        raise StudyFileError("not a shipped asset", where="/".join(parts))
    if not path.exists():
        raise StudyFileError("no such shipped file", where="/".join(parts))
    return path
