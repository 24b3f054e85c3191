"""A sweep as one HTML page: every trial as a line, what mattered, and who was pruned when. No script, nothing fetched.

A pure function of the plan and its trials: equal sweeps give equal bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from swiftbolt.evaluation import plots
from swiftbolt.evaluation.markup import html_table, paragraph, quiet
from swiftbolt.evaluation.plots import Axes, dot, line, rect, svg, text_at
from swiftbolt.evaluation.report import STYLE
from swiftbolt.evaluation.search_space import Dimension
from swiftbolt.evaluation.sweep_results import (
    LEAST_TO_COMPARE,
    OBJECTIVE,
    SweepPlan,
    SweepTrial,
    counted,
    importance,
    ranked,
    shown,
    table_cells,
)

WIDE, TALL = 1060, 320
BARS_WIDTH, NAME_WIDTH, VALUE_WIDTH, ROW_HEIGHT = 530, 200, 48, 24
TRIAL_STYLE = """
svg .best { stroke: var(--good); stroke-width: 2.5; fill: none; }
svg .complete { stroke: var(--mark); opacity: .75; fill: none; }
svg .pruned { stroke: var(--quiet); opacity: .45; fill: none; }
svg .failed { stroke: var(--bad); stroke-dasharray: 4 3; fill: none; }
svg .running { stroke: var(--line); fill: none; }
"""


def render_sweep(plan: SweepPlan, trials: Sequence[SweepTrial]) -> str:
    """The page as text. Everything that comes from the sweep is escaped."""
    best_first = ranked(trials)
    body = [
        f"<h1>Sweep of {escape(plan.model)}</h1>",
        paragraph(
            f"{plan.run}: {len(trials)} trials ({counted(trials)}) on {len(plan.symbols)} symbols and"
            f" {len(plan.folds)} folds, data up to {plan.data_end}."
        ),
        quiet(f"{OBJECTIVE}; below 1 is better than naive. Scored on validation ranges only; test ranges stay unseen."),
        "<h2>Every trial</h2>",
        quiet("A line is a trial, green the best; grey was pruned, dashed failed. Hover a line for its numbers."),
        _figure(_coordinates(plan, best_first)),
        "<h2>What mattered</h2>",
        *_importances(plan, trials),
        "<h2>Pruning</h2>",
        quiet("The running mean after each fold; what falls behind ends early. Dashed is naive."),
        *(
            [_figure(_curves(plan, best_first))]
            if any(one.folds for one in trials)
            else [paragraph("No fold was done.")]
        ),
        "<h2>Every number</h2>",
        _table(plan, best_first),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>SwiftBolt sweep of {escape(plan.model)}</title>\n"
        f"<style>{STYLE}{plots.STYLE}{TRIAL_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _coordinates(plan: SweepPlan, best_first: Sequence[SweepTrial]) -> str:
    """An upright axis for each parameter and, last, one for the loss, its best at the bottom."""
    keys = list(plan.space)
    losses = [one.loss for one in best_first if one.is_scored]
    low, high = (min(losses), max(losses)) if losses else (0.0, 1.0)
    axes = Axes(x=(0, len(keys)), y=(0, 1), left=70, right=WIDE - 70, top=42, bottom=TALL - 30)
    parts = []
    for k, key in enumerate([*keys, "loss"]):
        (x, bottom), (_, top) = axes.at(k, 0), axes.at(k, 1)
        lowest, highest = (f"{low:.4f}", f"{high:.4f}") if key == "loss" else _ends(plan.space[key])
        parts += [
            line(x, bottom, x, top, "rule"),
            text_at(x, 14, key, "middle"),
            text_at(x, top - 4, highest, "middle", "quiet"),
            text_at(x, bottom + 16, lowest, "middle", "quiet"),
        ]
    for one in reversed(best_first):  # the best is drawn last, over the others
        places = [(float(k), plan.space[key].place(one.parameters[key])) for k, key in enumerate(keys)]
        end = (one.loss - low) / ((high - low) or 1.0) if one.is_scored else 1.0
        parts.append(axes.path([*places, (float(len(keys)), end)], _kind(one, best_first), _said(plan, one)))
    return svg(WIDE, TALL, parts, "parameters and loss of every trial")


def _importances(plan: SweepPlan, trials: Sequence[SweepTrial]) -> list[str]:
    found = importance(trials, plan.space)
    if not found:
        return [paragraph(f"Fewer than {LEAST_TO_COMPARE} trials have a score: nothing can be said.")]
    scale = BARS_WIDTH - NAME_WIDTH - VALUE_WIDTH
    parts = []
    for i, (key, share) in enumerate(found.items()):
        middle = ROW_HEIGHT * (i + 0.5) + 2
        parts.append(text_at(0, middle + 4, key))
        parts.append(rect(NAME_WIDTH, middle - 7, share * scale, 14, "mark", f"{key}: {share:.1%}"))
        parts.append(text_at(BARS_WIDTH, middle + 4, f"{share:.0%}", "end"))
    label = "importance of parameters: " + ", ".join(f"{key} {share:.0%}" for key, share in found.items())
    return [
        quiet("Share of the order of the trials that a parameter explains alone (epsilon squared of ranks)."),
        _figure(svg(BARS_WIDTH, ROW_HEIGHT * len(found) + 4, parts, label)),
    ]


def _curves(plan: SweepPlan, best_first: Sequence[SweepTrial]) -> str:
    scored = [one for one in best_first if one.folds]
    values = [1.0, *(value for one in scored for value in one.running_losses)]
    axes = Axes(x=(1, max(len(plan.folds), 2)), y=(min(values), max(values)), right=WIDE - 10, bottom=TALL - 38)
    parts = [*axes.scale(".3f"), axes.level(1.0, "aim")]
    for one in reversed(scored):
        places = [(float(k), value) for k, value in enumerate(one.running_losses, start=1)]
        parts.append(axes.path(places, _kind(one, best_first), _said(plan, one)))
        parts.append(dot(*axes.at(*places[-1]), 3, _said(plan, one)))
    parts += axes.below({float(k): str(k) for k in range(1, len(plan.folds) + 1)}, "folds done")
    return svg(WIDE, TALL, parts, "running loss of every trial")


def _table(plan: SweepPlan, best_first: Sequence[SweepTrial]) -> str:
    heads, *lines = table_cells(best_first, plan.space)
    reasons = [f' title="{escape(one.reason)}"' if one.reason else "" for one in best_first]
    return html_table(
        heads,
        [
            [(cell, reason if head == "state" else "") for head, cell in zip(heads, line, strict=True)]
            for line, reason in zip(lines, reasons, strict=True)
        ],
    )


def _said(plan: SweepPlan, one: SweepTrial) -> str:
    chosen = ", ".join(f"{key} {shown(one.parameters[key])}" for key in plan.space)
    told = f"{one.loss:.5f}, {one.state} after {len(one.folds)} folds" if one.is_scored else one.reason or one.state
    return f"trial {one.number}: {chosen}: {told}"


def _kind(one: SweepTrial, best_first: Sequence[SweepTrial]) -> str:
    return "best" if one is best_first[0] and one.state == "complete" else one.state


def _ends(dimension: Dimension) -> tuple[str, str]:
    if dimension.choice is not None:
        return shown(dimension.choice[0]), shown(dimension.choice[-1]) if len(dimension.choice) > 1 else ""
    low, high = dimension.bounds
    return shown(low), shown(high)


def _figure(drawing: str) -> str:
    return f'<figure class="scroll">\n{drawing}\n</figure>'
