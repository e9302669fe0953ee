"""Comparing what was sent with what a server gives back, modulo what servers are known to normalise.

| what | why it is left out |
|---|---|
| `meta.versionId`, `meta.lastUpdated`, `meta.source`, `meta.profile` | set by the server |
| `meta.tag`, `meta.security` | servers merge them over versions: ours must be among them |
| `text` | servers generate narratives |
| `Provenance.recorded` | the instant of the write, not content |
| `Reference.display`, `Reference.type` | added by some servers |
| absolute and versioned references | HAPI strips versions; the base URL of the server itself is taken off |
"""

from __future__ import annotations

from typing import Any

__all__ = ["differences", "normalise"]

_META = ("versionId", "lastUpdated", "source", "profile", "tag", "security")


def _reference(text: str, base: str) -> str:
    text = text.removeprefix(base.rstrip("/") + "/")
    return text.partition("/_history/")[0]


def _clean(value: Any, base: str) -> Any:
    if isinstance(value, list):
        return [_clean(item, base) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: _clean(item, base) for key, item in value.items()}
    if isinstance(kept.get("reference"), str):
        kept["reference"] = _reference(kept["reference"], base)
        kept.pop("display", None)
        kept.pop("type", None)
    if isinstance(kept.get("url"), str) and "contentType" in kept:
        kept["url"] = _reference(kept["url"], base)
    return kept


def normalise(resource: dict[str, Any], base: str) -> dict[str, Any]:
    """A resource without what servers set or change by themselves."""
    kept: dict[str, Any] = _clean({key: item for key, item in resource.items() if key != "text"}, base)
    meta = {key: item for key, item in kept.get("meta", {}).items() if key not in _META}
    kept.pop("meta", None)
    if meta:
        kept["meta"] = meta
    if kept.get("resourceType") == "Provenance":
        kept.pop("recorded", None)
    return kept


def _codes(resource: dict[str, Any], part: str) -> set[tuple[str, str]]:
    return {(item.get("system", ""), item.get("code", "")) for item in resource.get("meta", {}).get(part, [])}


def differences(sent: dict[str, Any], found: dict[str, Any], base: str) -> list[str]:
    """Names of the elements in which a resource on the server differs from what was (or would be) sent."""
    ours, theirs = normalise(sent, base), normalise(found, base)
    names = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    names += [f"meta.{part}" for part in ("tag", "security") if not _codes(sent, part) <= _codes(found, part)]
    return names
