"""What must agree between the wire, the landing and the mapping."""

from __future__ import annotations

from fhir_adapter.accounting import Disposition
from fhir_adapter.connectors import PullReport
from fhir_adapter.errors import (
    AccountingError,
)
from fhir_adapter.landing import LeftOut

__all__ = ["check_wire", "set_aside"]


def check_wire(report: PullReport, landed: dict[str, dict[str, int]]) -> None:
    """No resource that was counted at the wire may be missing from the landing.

    Raises:
        AccountingError: the landing holds fewer of a type than came (it may hold more, from earlier pulls).
    """
    short = [
        f"{type_}: {number} came, {landed.get(type_, {}).get('total', 0)} landed"
        for type_, number in sorted(report.received.items())
        if number > landed.get(type_, {}).get("total", 0)
    ]
    if short:
        raise AccountingError(
            "resources that came over the wire are not in the landing: " + "; ".join(short),
            where="pull",
            remedy="This is a defect of the adapter; keep the run folder and report it.",
        )


def set_aside(item: LeftOut) -> Disposition:
    """The disposition of what the landing does not hand to the mapping."""
    unreadable = item.reason == "unreadable"
    return Disposition(
        type=item.type, id=item.id, version=item.version, sequence=item.sequence, reason=item.reason,
        outcome="quarantined" if unreadable else "not-needed", path="$" if unreadable else "",
    )  # fmt: skip
