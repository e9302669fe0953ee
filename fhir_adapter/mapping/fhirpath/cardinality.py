"""Which elements repeat: the one thing on an element that fhirpathpy's tables do not tell.

It is read from the models of fhir.resources (R4B for R4: they have the same structure for the types of a
study), one type at a time and only for the types that a view touches.
"""

from __future__ import annotations

import typing
from functools import cache

from fhir.resources import get_fhir_model_class as r5_class
from fhir.resources.R4B import get_fhir_model_class as r4b_class

__all__ = ["repeats"]


@cache
def _fields(release: str, name: str) -> dict[str, bool]:
    try:
        model = (r5_class if release == "R5" else r4b_class)(name)
    except (ValueError, LookupError, ImportError):
        return {}  # a type that R4B no longer has
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
    model = "".join(part[:1].upper() + part[1:] for part in of.split("."))
    return _fields(release, model).get(name)
