"""How many configurations were tried, in words: for a terminal, and as a section of the report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from swiftbolt.evaluation.equity import SESSIONS_PER_YEAR
from swiftbolt.evaluation.markup import Cell, html_table, paragraph, quiet
from swiftbolt.evaluation.scorecard import ordered_scores, shown

COLUMNS = (
    ("Sharpe", "sharpe", ".2f"),
    ("by luck", "benchmark", ".2f"),
    ("deflated", "probability", ".1%"),
    ("clusters", "clusters", "d"),
    ("sessions", "sessions", "d"),
)
LEAD = (
    "The Sharpe ratio of the simple rule (annualised), the best that luck would show among so many clusters of trials, "
    "and the chance that the true one lies above that. Hover a dash for why there is none."
)


def trial_sentence(scorecard: Mapping[str, Any]) -> str:
    """How many configurations were tried, and the odds that the best of them is overfitted."""
    trials = scorecard["trials"]
    if trials["reason"] is not None:
        return f"how many were tried is not known: {trials['reason']}"
    odds, tried, without = trials["overfitting"], trials["tried"], trials["without_returns"]
    told = (
        f"not told ({odds['reason']})"
        if odds["probability"] is None
        else f"{odds['probability']:.0%}, of {odds['trials']} trials and {odds['sessions']} sessions"
    )
    return (
        f"{tried} configuration{'' if tried == 1 else 's'} tried on these symbols and years"
        f"{f', {without} of them without daily returns' if without else ''}; "
        f"probability that the best is overfitted (PBO): {told}"
    )


def trial_lines(scorecard: Mapping[str, Any]) -> list[str]:
    """For a terminal: how many were tried, then a line per model and horizon that was judged among them."""
    heads = " ".join(f"{head:>{_width(head)}}" for head, _, _ in COLUMNS)
    lines = [
        f"{model:<12} {horizon:>7} "
        + " ".join(f"{shown(one[key], form):>{_width(head)}}" for head, key, form in COLUMNS)
        for model, horizon, one in _judged(scorecard)
    ]
    return [trial_sentence(scorecard), *([f"{'model':<12} {'horizon':>7} {heads}", *lines] if lines else ())]


def trials_section(scorecard: Mapping[str, Any]) -> str:
    """The report's section on what was tried; everything in it is escaped."""
    sentence = trial_sentence(scorecard)
    parts = ["<h2>How many were tried</h2>", paragraph(sentence[0].upper() + sentence[1:] + ".")]
    lines = [[(model, ""), (str(horizon), ""), *_cells(one)] for model, horizon, one in _judged(scorecard)]
    if lines:
        parts += [quiet(LEAD), html_table(("model", "horizon", *(head for head, _, _ in COLUMNS)), lines)]
    return "\n".join(parts)


def _judged(scorecard: Mapping[str, Any]) -> list[tuple[str, int, dict[str, Any]]]:
    """Model, horizon and deflated Sharpe ratio, annualised, in the scorecard's order; none where nobody knows."""
    trials = scorecard["trials"]
    if trials["reason"] is not None:
        return []
    found = trials["deflated_sharpe"]
    return [
        (model, horizon, _annualised(found[model][str(horizon)]))
        for model, horizon, _ in ordered_scores(scorecard)
        if model in found
    ]


def _annualised(one: Mapping[str, Any]) -> dict[str, Any]:
    a_year = math.sqrt(SESSIONS_PER_YEAR)
    return {**one, **{key: None if one[key] is None else a_year * one[key] for key in ("sharpe", "benchmark")}}


def _width(head: str) -> int:
    return max(len(head), 8)


def _cells(one: Mapping[str, Any]) -> list[Cell]:
    why = "" if one["reason"] is None else f' title="{escape(one["reason"])}"'
    return [(shown(one[key], form), why) for _, key, form in COLUMNS]
