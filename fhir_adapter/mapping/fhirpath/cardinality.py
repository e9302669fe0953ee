"""Which elements repeat, and their order: what fhirpathpy's tables do not tell.

It is read from the models of fhir.resources (R4B for R4: they have the same structure for the types of a
study), one type at a time and only for the types that a view touches.
"""

from __future__ import annotations

import typing
from collections.abc import Collection
from functools import cache
from typing import Any

from fhir.resources import get_fhir_model_class as r5_class
from fhir.resources.R4B import get_fhir_model_class as r4b_class

__all__ = ["in_order", "repeats"]


@cache
def _model(release: str, of: str) -> Any:
    try:
        return (r5_class if release == "R5" else r4b_class)(
            "".join(part[:1].upper() + part[1:] for part in of.split("."))
        )
    except (ValueError, LookupError, ImportError):
        return None  # a type that R4B no longer has


@cache
def _fields(release: str, of: str) -> dict[str, bool]:
    model = _model(release, of)
    if model is None:
        return {}
    return {
        field.alias or key: any(
            typing.get_origin(part) is list for part in (field.annotation, *typing.get_args(field.annotation))
        )
        for key, field in model.model_fields.items()
    }


def repeats(release: str, of: str, name: str) -> bool | None:
    """Whether an element is a list in JSON.

    Args:
        release: R4 or R5.
        of: a type (`Patient`, `HumanName`) or the path of a backbone element (`Patient.contact`).
        name: JSON key of the element (`valueQuantity`, not `value`).

    Returns:
        None if it is not known.
    """
    return _fields(release, of).get(name)


def in_order(release: str, of: str, names: Collection[str]) -> list[str]:
    """JSON keys in the order in which a server writes them, which is the order of the specification.

    Args:
        release: R4 or R5.
        of: as in `repeats`.
        names: JSON keys of elements.
    """
    model = _model(release, of)
    sequence = ["resourceType", *(model.elements_sequence() if model is not None else ())]
    return sorted(names, key=lambda name: sequence.index(name) if name in sequence else len(sequence))
