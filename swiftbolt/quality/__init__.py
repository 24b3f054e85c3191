"""What the numbers themselves say is wrong with bars and actions: jumps, repeats, gaps, actions without effect.

Every finding follows from what was known at the close of its ``known_from``: replace all that comes later, or the
order of the symbols, and it stays the same to the last letter. Kinds that keep a bar out of training are tuned to be
right rather than complete, as a crash taken for a mistake flatters whoever forecasts. Faults of a single row are
``bars.screen_bars``' business.
"""

from __future__ import annotations

from swiftbolt.actions import CorporateActions
from swiftbolt.bars import Bars
from swiftbolt.findings import Findings
from swiftbolt.quality.events import implausible_actions, missing_sessions, splits_without_jump
from swiftbolt.quality.jumps import absurd_rises, bad_ticks, split_like_jumps
from swiftbolt.quality.measures import measure
from swiftbolt.quality.repeats import stale_closes, zero_volumes

__all__ = ["inspect"]


def inspect(bars: Bars, actions: CorporateActions) -> Findings:
    """Every check over a whole universe.

    Only a stale close depends on other symbols than its own, and none is found on a session on which fewer than
    ``repeats.MIN_UNIVERSE`` symbols have a bar: findings are those of the universe that was handed in.
    """
    measured = measure(bars, actions)
    return Findings.concatenate(
        [
            bad_ticks(measured),
            split_like_jumps(measured),
            absurd_rises(measured),
            stale_closes(measured),
            zero_volumes(measured),
            missing_sessions(measured),
            implausible_actions(measured, actions),
            splits_without_jump(measured, actions),
        ]
    )
