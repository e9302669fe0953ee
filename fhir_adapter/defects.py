"""What may be said of an error that nobody foresaw."""

from __future__ import annotations

import traceback

__all__ = ["defect"]


def defect(error: BaseException) -> str:
    """Class and place of an error, without its text, which may quote patient data."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "fhir_adapter" in frame.filename] or list(frames)
    place = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(own[-4:]))
    return f"defect: {type(error).__name__} at {place}"
