"""The mark on everything that the adapter writes, so that a later pull can tell it from what others wrote."""

from __future__ import annotations

__all__ = ["OWN_TAG", "OWN_TAG_CODE", "OWN_TAG_SYSTEM"]

#: System of the tag (`meta.tag.system`).
OWN_TAG_SYSTEM = "https://fhir-adapter.org/tags"
#: Code of the tag (`meta.tag.code`).
OWN_TAG_CODE = "output"
#: The tag as a search token: `_tag=system|code`.
OWN_TAG = f"{OWN_TAG_SYSTEM}|{OWN_TAG_CODE}"
