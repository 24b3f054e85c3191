"""The report's plots: inline SVG, coloured by the page's style sheet so that they suit light and dark.

Pure functions of plain values. What a mark stands for is its title, shown on hovering.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from swiftbolt.evaluation.scorecard import BENCHMARK, shown
from swiftbolt.evaluation.scores import GOALS

Scores = tuple[str, int, dict[str, Any]]
Points = Sequence[Mapping[str, Any]]

WIDTH, HEIGHT, SQUARE = 330, 220, 300
LABEL_WIDTH, VALUE_WIDTH, ROW_HEIGHT = 86, 58, 24
FEATURES, FEATURE_WIDTH, SHARE_WIDTH, FEATURE_HEIGHT = 12, 200, 42, 19
UNTITLED = HEIGHT - 16  # without a title below the axis
LEAST_SHARE = 0.01  # of the forecasts, in a bin that is drawn
INTERVALS = (("coverage_50", 0.50), ("coverage_90", 0.90), ("coverage_95", 0.95))

STYLE = """
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); } svg .quiet { fill: var(--quiet); }
svg .rule { stroke: var(--line); fill: none; } svg .aim { stroke: var(--quiet); stroke-dasharray: 4 3; fill: none; }
svg .good { fill: var(--good); } svg .bad { fill: var(--bad); } svg .mark { fill: var(--mark); }
svg .curve { stroke: var(--mark); stroke-width: 2; fill: none; }
svg .faint { stroke: var(--quiet); opacity: .6; fill: none; } svg .sunk { fill: var(--bad); fill-opacity: .35; }
svg .part0 { fill: var(--mark); } svg .part1 { fill: var(--good); } svg .part2 { fill: var(--bad); }
svg .part3 { fill: var(--quiet); }
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Axes:
    """A rectangle of the picture, and the values at its edges."""

    x: tuple[float, float]
    y: tuple[float, float]
    left: float = 46
    right: float = WIDTH - 10
    top: float = 12
    bottom: float = HEIGHT - 38

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a value lies."""
        return self._across(x), self._up(y)

    def path(self, points: Sequence[tuple[float, float]], kind: str, said: str = "") -> str:
        """A line through values."""
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in points))
        return f'<polyline points="{places}" class="{kind}">{_title(said)}</polyline>'

    def level(self, y: float, kind: str) -> str:
        """A line across."""
        return line(self.left, self._up(y), self.right, self._up(y), kind)

    def scale(self, form: str) -> list[str]:
        """Round values up the left side, each with a line."""
        parts = []
        for tick in ticks(*self.y):
            parts.append(self.level(tick, "rule"))
            parts.append(text_at(self.left - 6, self._up(tick) + 4, format(tick, form), "end", "quiet"))
        return parts

    def below(self, labels: Mapping[float, str], title: str = "") -> list[str]:
        """Labels under the picture at some values of x; the outermost stay within it."""
        anchors = {min(labels, default=0.0): "start", max(labels, default=0.0): "end"} if len(labels) > 1 else {}
        parts = [
            text_at(self._across(x), self.bottom + 16, text, anchors.get(x, "middle"), "quiet")
            for x, text in labels.items()
        ]
        return (
            [*parts, text_at((self.left + self.right) / 2, self.bottom + 32, title, "middle", "quiet")]
            if title
            else parts
        )

    def _across(self, x: float) -> float:
        return self.left + (x - self.x[0]) / ((self.x[1] - self.x[0]) or 1.0) * (self.right - self.left)

    def _up(self, y: float) -> float:
        return self.bottom - (y - self.y[0]) / ((self.y[1] - self.y[0]) or 1.0) * (self.bottom - self.top)


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round values from ``low`` to ``high``: steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def skill_range(scores: Sequence[Scores]) -> tuple[float, float]:
    """Least and greatest skill of all charts, zero included, so that bars compare across horizons."""
    found = [entry["skill"] for _, _, entry in scores if entry["skill"] is not None]
    return min([0.0, *found]), max([0.0, *found])


def skill_by_model(rows: Sequence[Scores], low: float, high: float) -> str:
    """One bar per model, from zero to its skill."""
    rows = [row for row in rows if row[0] != BENCHMARK]
    width = WIDTH - LABEL_WIDTH - VALUE_WIDTH
    scale = width / ((high - low) or 1.0)
    zero = LABEL_WIDTH - low * scale
    height = ROW_HEIGHT * len(rows) + 4
    parts = [line(zero, 0, zero, height, "rule")]
    for i, (name, _, scores) in enumerate(rows):
        skill, middle = scores["skill"], ROW_HEIGHT * (i + 0.5) + 2
        parts.append(text_at(0, middle + 4, name))
        parts.append(text_at(WIDTH, middle + 4, shown(skill, "+.2%"), "end"))
        if skill is not None:
            left = min(zero, zero + skill * scale)
            parts.append(rect(left, middle - 7, abs(skill) * scale, 14, _side(skill)))
    return svg(WIDTH, height, parts, "skill per model")


def skill_by_year(points: Points) -> str:
    """One bar per year, up from zero where the ensemble was better."""
    found = [p for p in points if p["skill"] is not None]
    values = [0.0, *(p["skill"] for p in found)]
    axes = Axes(x=(0, max(len(found), 1)), y=(min(values), max(*values, 0.001)))
    parts = axes.scale("+.1%")
    width = min((axes.right - axes.left) / max(len(found), 1) * 0.7, 40)
    for i, p in enumerate(found):
        (x, y), (_, zero) = axes.at(i + 0.5, p["skill"]), axes.at(0, 0)
        said = f"{p['year']}: {p['skill']:+.2%} on {p['n']} forecasts"
        parts.append(rect(x - width / 2, min(y, zero), width, abs(y - zero), _side(p["skill"]), said))
    every = max(1, math.ceil(len(found) / 7))
    parts += [
        text_at(axes.at(i + 0.5, 0)[0], axes.bottom + 16, str(p["year"]), "middle", "quiet")
        for i, p in enumerate(found)
        if i % every == 0
    ]
    return svg(WIDTH, UNTITLED, parts, "CRPS skill by year")


def coverage_by_model(rows: Sequence[Scores]) -> str:
    """One line of three dots per model, and a dashed rule at each nominal level."""
    width = WIDTH - LABEL_WIDTH - 16
    top = 18.0
    height = top + ROW_HEIGHT * len(rows) + 4

    def x(share: float) -> float:
        # From 40 % to 100 %, where all intervals of a usable forecast lie.
        return LABEL_WIDTH + width * (max(share, 0.4) - 0.4) / 0.6

    parts = [line(x(nominal), top, x(nominal), height, "aim") for _, nominal in INTERVALS]
    parts += [text_at(x(nominal), 12, f"{nominal * 100:.0f}", "middle", "quiet") for _, nominal in INTERVALS]
    for i, (name, _, scores) in enumerate(rows):
        middle = top + ROW_HEIGHT * (i + 0.5)
        parts += [text_at(0, middle + 4, name), line(LABEL_WIDTH, middle, WIDTH - 16, middle, "rule")]
        for key, nominal in INTERVALS:
            share = scores[key]
            if share is not None:
                parts.append(dot(x(share), middle, 4.5, f"{name}: {share:.1%} inside the {nominal:.0%} interval"))
    return svg(WIDTH, height, parts, "interval coverage per model")


def coverage_by_quarter(points: Points) -> str:
    """Share inside the 95 % interval, quarter after quarter."""
    lowest = min(p["coverage_95"] for p in points)
    axes = Axes(x=(0, max(len(points) - 1, 1)), y=(min(0.85, lowest), 1.0))
    places = [(float(i), p["coverage_95"]) for i, p in enumerate(points)]
    parts = [*axes.scale(".0%"), axes.level(0.95, "aim"), axes.path(places, "curve")]
    for place, p in zip(places, points, strict=True):
        parts.append(dot(*axes.at(*place), 3, f"{p['quarter']}: {p['coverage_95']:.1%} of {p['n']} outcomes"))
    parts += axes.below({i: points[i]["quarter"] for i in {0, len(points) - 1}})
    return svg(WIDTH, UNTITLED, parts, "coverage of the 95 % interval by quarter")


def reliability(bins: Points) -> str:
    """Frequency of rises over mean p_up, of bins that hold at least ``LEAST_SHARE`` of the forecasts.

    Both go over the same range of tenths; larger dots stand for more forecasts.
    """
    bins = [b for b in bins if b["count"] >= LEAST_SHARE * sum(one["count"] for one in bins)]
    points = [(b["mean_p_up"], b["rise_frequency"]) for b in bins]
    values = [0.5, *(value for point in points for value in point)]
    low = max(math.floor(min(values) * 10 - 0.5) / 10, 0.0)
    high = min(math.ceil(max(values) * 10 + 0.5) / 10, 1.0)
    axes = Axes(x=(low, high), y=(low, high), left=42, right=SQUARE - 12, top=12, bottom=SQUARE - 42)
    parts = [*axes.scale(".0%"), axes.path([(low, low), (high, high)], "aim"), axes.path(points, "curve")]
    most = max(b["count"] for b in bins)
    for point, b in zip(points, bins, strict=True):
        said = f"given {b['mean_p_up']:.1%}, rose {b['rise_frequency']:.1%} of {b['count']} times"
        parts.append(dot(*axes.at(*point), 2.0 + 6.0 * (b["count"] / most) ** 0.5, said))
    parts += axes.below(
        {value: f"{value:.0%}" for value in (low, (low + high) / 2, high)}, "probability given of a rise"
    )
    return svg(SQUARE, SQUARE, parts, "reliability of the probability of a rise")


def selective(curves: Mapping[str, Points], chosen: str) -> str:
    """Share on the right side among the most confident forecasts: ``chosen`` in colour, other models faint."""
    goal = GOALS["directional_accuracy"]
    values = [p["accuracy"] for points in curves.values() for p in points]
    axes = Axes(x=(0, 1), y=(min([0.48, *values]), max([goal + 0.01, *values])))
    parts = [*axes.scale(".0%"), axes.level(goal, "aim")]
    for name in sorted(curves, key=lambda name: (name == chosen, name)):
        kind = "curve" if name == chosen else "faint"
        parts.append(axes.path([(p["coverage"], p["accuracy"]) for p in curves[name]], kind, name))
        for p in curves[name] if name == chosen else ():
            said = f"the most confident {p['coverage']:.0%} (from {p['threshold']:.1%}): {p['accuracy']:.1%} right"
            parts.append(dot(*axes.at(p["coverage"], p["accuracy"]), 3, said))
    parts += axes.below({0: "0%", 0.5: "50%", 1: "100%"}, "share of forecasts acted on")
    return svg(WIDTH, HEIGHT, parts, "accuracy against coverage")


def equity(points: Points) -> str:
    """Compounded wealth above, drawdown below."""
    wealth = [1.0, *(p["wealth"] for p in points)]
    deepest = min(GOALS["max_drawdown"] * 1.1, *(p["drawdown"] for p in points))
    span = (0.0, float(max(len(points) - 1, 1)))
    upper = Axes(x=span, y=(min(wealth), max(max(wealth), min(wealth) + 0.01)), bottom=140)
    lower = Axes(x=span, y=(deepest, 0.0), top=160, bottom=HEIGHT + 10)
    sunk = [(0.0, 0.0), *((float(i), p["drawdown"]) for i, p in enumerate(points)), (span[1], 0.0)]
    parts = [
        *upper.scale(".2f"),
        upper.level(1.0, "aim"),
        upper.path([(float(i), p["wealth"]) for i, p in enumerate(points)], "curve"),
        *(
            text_at(lower.left - 6, lower.at(0, tick)[1] + 4, f"{tick:.0%}", "end", "quiet")
            for tick in ticks(*lower.y, 2)
        ),
        lower.path(sunk, "sunk"),
        lower.level(0.0, "rule"),
        lower.level(GOALS["max_drawdown"], "aim"),
        *lower.below({0.0: points[0]["session"], span[1]: points[-1]["session"]}),
    ]
    return svg(WIDTH, UNTITLED + 48, parts, "wealth and drawdown of the simple rule")


def weights(folds: Sequence[tuple[str, Mapping[str, float]]]) -> str:
    """One stacked column per fold, from its first origin on: what each member counts."""
    members = list(dict.fromkeys(name for _, row in folds for name in row))
    axes = Axes(x=(0, len(folds)), y=(0, 1), top=30)
    parts = axes.scale(".0%")
    for i, (first, row) in enumerate(folds):
        done = 0.0
        for m, name in enumerate(members):
            share = row.get(name, 0.0)
            (left, top), (right, bottom) = axes.at(i + 0.04, done + share), axes.at(i + 0.96, done)
            said = f"{name}: {share:.1%} from {first}"
            parts.append(rect(left, top, right - left, bottom - top, f"part{m % 4}", said))
            done += share
    x = 0.0
    for m, name in enumerate(members):
        parts += [rect(x, 6, 10, 10, f"part{m % 4}"), text_at(x + 14, 15, name)]
        x += 26 + 6.5 * len(name)
    labels = {0.0: folds[0][0], **({float(len(folds)): f"{folds[-1][0]} on"} if len(folds) > 1 else {})}
    return svg(WIDTH, UNTITLED, [*parts, *axes.below(labels)], "ensemble weights over folds")


def importance(rows: Sequence[Mapping[str, Any]]) -> str:
    """One bar per feature, as far as it moves the median on average; the ``FEATURES`` that move it most."""
    rows = rows[:FEATURES]
    width = WIDTH - FEATURE_WIDTH - SHARE_WIDTH
    scale = width / (max(row["shap"] for row in rows) or 1.0)
    parts = []
    for i, row in enumerate(rows):
        middle = FEATURE_HEIGHT * (i + 0.5) + 2
        said = f"{row['feature']}: {row['shap']:.2%} of the usual move, mean gain of its splits {row['gain']:.3g}"
        parts.append(text_at(0, middle + 4, row["feature"]))
        parts.append(rect(FEATURE_WIDTH, middle - 6, row["shap"] * scale, 12, "mark", said))
        parts.append(text_at(WIDTH, middle + 4, f"{row['shap']:.1%}", "end"))
    label = ", ".join(f"{row['feature']} {row['shap']:.1%}" for row in rows)
    return svg(WIDTH, FEATURE_HEIGHT * len(rows) + 4, parts, f"importance of features: {label}")


def _side(value: float) -> str:
    return "good" if value > 0 else "bad"


def svg(width: float, height: float, parts: Sequence[str], label: str) -> str:
    inside = "\n".join(parts)
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" role="img" '
        f'aria-label="{escape(label)}">\n{inside}\n</svg>'
    )


def text_at(x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(text)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def rect(x: float, y: float, width: float, height: float, kind: str, said: str = "") -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2" class="{kind}">'
        f"{_title(said)}</rect>"
    )


def dot(x: float, y: float, radius: float, said: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="mark">{_title(said)}</circle>'


def _title(said: str) -> str:
    return f"<title>{escape(said)}</title>" if said else ""
