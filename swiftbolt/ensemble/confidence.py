"""What a forecast means to a person: direction, confidence, agreement of the members, signal.

Confidence is a calibrated probability, agreement a count of heads; they are different things. Pure
functions of plain numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

Direction = Literal["UP", "DOWN"]
Action = Literal["BUY", "SELL", "HOLD"]


def direction(p_up: float) -> Direction:
    """The likelier side; an even chance counts as up."""
    return "UP" if p_up >= 0.5 else "DOWN"


def confidence(p_up: float) -> float:
    """Probability of ``direction``, from 0.5 to 1."""
    return max(p_up, 1.0 - p_up)


def agreement(member_medians: Iterable[float], p_up: float) -> float:
    """Share of members whose median lies on the ensemble's side; a median of zero is on neither.

    Raises:
        ValueError: no member.
    """
    medians = list(member_medians)
    if not medians:
        raise ValueError("agreement needs at least one member")
    side = 1.0 if direction(p_up) == "UP" else -1.0
    return sum(median * side > 0 for median in medians) / len(medians)


def gain_of(median: float, p_up: float) -> float:
    """Simple return of the price target to one who trades in ``direction``.

    Args:
        median: of the cumulative log return.
    """
    return math.expm1(median) if direction(p_up) == "UP" else -math.expm1(median)


def obstacle(p_up: float, median: float, *, threshold: float, cost: float) -> str | None:
    """What keeps a forecast from being a trade, in words; None if nothing does."""
    if confidence(p_up) < threshold:
        return f"confidence {confidence(p_up):.1%} is below {threshold:.1%}"
    if gain_of(median, p_up) <= cost:
        return f"expected gain {gain_of(median, p_up):.2%} does not exceed the round-trip cost {cost:.2%}"
    return None


def signal(p_up: float, median: float, *, threshold: float, cost: float) -> Action:
    """BUY or SELL when confidence reaches ``threshold`` and the target's return exceeds ``cost``, else HOLD.

    Args:
        p_up: calibrated probability of a rise.
        median: of the cumulative log return; the price target is the close times its exponential.
        threshold: least confidence.
        cost: of entering and leaving, as simple return.
    """
    if obstacle(p_up, median, threshold=threshold, cost=cost) is not None:
        return "HOLD"
    return "BUY" if direction(p_up) == "UP" else "SELL"
