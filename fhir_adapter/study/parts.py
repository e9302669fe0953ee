"""What every part of a study file is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Model", "Slug", "Variable"]


Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


Variable = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,31}$")]


class Model(BaseModel):
    """A part of a study file: unknown fields are mistakes, and nothing changes it once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)
