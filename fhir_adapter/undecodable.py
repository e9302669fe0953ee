"""What bytes that came from elsewhere raise when they are decoded and are not what they should be."""

from __future__ import annotations

import msgspec

__all__ = ["UNDECODABLE"]

#: Not JSON or not of the shape that was asked for, not UTF-8, nested too deep.
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
