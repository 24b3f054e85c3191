"""Numbers out of a vendor's JSON: what is none, or none that a price can be, is told apart once for all vendors."""

from __future__ import annotations

import math


def number_of(value: object) -> float | None:
    """``value`` if it is a finite number; neither text nor a truth value is one."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            return None
        return number if math.isfinite(number) else None
    return None


def positive_of(value: object) -> float | None:
    """``value`` if it is a finite number above zero."""
    number = number_of(value)
    return number if number is not None and number > 0 else None
