"""Refused consent: of a subject who denied or withdrew it, no more is kept than is needed to count them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fhir_adapter.mapping.domains.context import Context

__all__ = ["KEPT", "REFUSED", "leave_out_refused"]

#: Values of DM.CONSENT of a subject whose data must not be used.
REFUSED = frozenset({"deny", "withdrawn"})

#: Domains that keep such a subject: who it is, and that consent was denied or withdrawn.
KEPT = frozenset({"DM", "DS"})


def leave_out_refused(context: Context) -> None:
    """Takes the rows of subjects who denied or withdrew consent out of every domain but `KEPT`.

    Their resources are then not needed, for the reason `consent`.

    Args:
        context: the partition, all domains made.
    """
    refused = {row["USUBJID"] for row in context.rows.get("DM", []) if row.get("CONSENT") in REFUSED}
    if not refused:
        return
    left: set[str] = set()
    for domain in context.rows.keys() - KEPT:
        rows = context.rows[domain]
        left |= _sources(row for row in rows if row["USUBJID"] in refused)
        context.rows[domain] = [row for row in rows if row["USUBJID"] not in refused]
    still = _sources(row for rows in context.rows.values() for row in rows)
    for number in context.used & {context.index[_key(reference)] for reference in left - still}:
        context.used.discard(number)
    for number in range(len(context.resources)):
        if context.subject(number) in refused and number not in context.used:
            context.dismiss(number, "consent")


def _sources(rows: Iterable[dict[str, Any]]) -> set[str]:
    return {reference for row in rows for reference in str(row["SRCREF"]).split()}


def _key(reference: str) -> str:
    return reference.partition("/_history/")[0]
