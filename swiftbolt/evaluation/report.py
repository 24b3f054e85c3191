"""The scorecard as one HTML page: inline SVG, no script, nothing fetched, light or dark as the reader's system is.

A pure function of the scorecard, whether fresh or read back from JSON: equal scorecards give equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from swiftbolt.evaluation.scorecard import BENCHMARK, goal_sentence, ordered_scores, shown, span_sentence

Scores = tuple[str, int, dict[str, Any]]

PANEL_WIDTH, LABEL_WIDTH, VALUE_WIDTH, ROW_HEIGHT = 340, 86, 58, 24
SQUARE, MARGIN = 300, 42
INTERVALS = (("coverage_50", 0.50), ("coverage_90", 0.90), ("coverage_95", 0.95))
TABLE_COLUMNS = (
    ("n", "scored", "d"),
    ("sessions", "sessions", "d"),
    ("crps", "CRPS", ".6f"),
    ("skill", "skill", "+.2%"),
    ("coverage_95", "in 95 %", ".1%"),
    ("coverage_90", "in 90 %", ".1%"),
    ("coverage_50", "in 50 %", ".1%"),
    ("directional_accuracy", "right side", ".1%"),
    ("rmse", "RMSE", ".5f"),
    ("mae", "MAE", ".5f"),
    ("r2", "R2", "+.2%"),
    ("calibration_error", "calibration error", ".3f"),
)

STYLE = """
:root { color-scheme: light dark; --page: #fbfbfa; --ink: #1d1f23; --quiet: #667085; --line: #d9dce1;
  --good: #1f7a5c; --bad: #b4532a; --mark: #2d5fa8; --card: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14161a; --ink: #e7e9ec; --quiet: #98a1b0; --line: #343a44;
    --good: #4cc39a; --bad: #ef9467; --mark: #7fb0ff; --card: #1b1e24; } }
body { margin: 0 auto; max-width: 1120px; padding: 2.5rem 1.25rem 4rem; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .25rem; }
p { margin: .25rem 0; max-width: 70ch; } .quiet, dt { color: var(--quiet); }
.row { display: flex; flex-wrap: wrap; gap: 1rem; margin-top: .75rem; }
figure { margin: 0; padding: .75rem; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
figcaption { font-weight: 600; margin-bottom: .25rem; } svg { display: block; max-width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); } svg .quiet { fill: var(--quiet); }
svg .rule { stroke: var(--line); fill: none; } svg .aim { stroke: var(--quiet); stroke-dasharray: 4 3; fill: none; }
svg .good { fill: var(--good); } svg .bad { fill: var(--bad); } svg .mark { fill: var(--mark); }
svg .curve { stroke: var(--mark); stroke-width: 2; fill: none; }
.scroll { overflow-x: auto; margin-top: .75rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { color: var(--quiet); font-weight: 500; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; } dd { margin: 0; }
"""


def render_report(scorecard: Mapping[str, Any]) -> str:
    """The page as text. Everything in ``scorecard`` is escaped."""
    scores = ordered_scores(scorecard)
    body = [
        "<h1>Scorecard</h1>",
        _paragraph(f"Strictly out of sample: {span_sentence(scorecard)}."),
        _paragraph(f"{goal_sentence(scorecard)}."),
        _section(
            "Skill against naive",
            "How much lower the CRPS is than that of a driftless random walk with recent volatility, on the same rows.",
            [_figure(horizon, _skill_chart(rows, *_skill_range(scores))) for horizon, rows in _by_horizon(scores)],
        ),
        _section(
            "Coverage",
            "Share of outcomes inside the 50 %, 90 % and 95 % intervals; dashed where it should be.",
            [_figure(horizon, _coverage_chart(rows)) for horizon, rows in _by_horizon(scores)],
        ),
        _section(
            "Reliability of the ensemble",
            "Frequency of rises against the probability given; on the dashed line a 60 % is a 60 %. "
            "Larger dots stand for more forecasts.",
            [
                _figure(int(horizon), _reliability_chart(scorecard["reliability"][horizon]))
                for horizon in sorted(scorecard["reliability"], key=int)
            ]
            or [_paragraph("No forecast of an ensemble has an outcome yet.")],
        ),
        "<h2>Every number</h2>",
        _table(scores),
        "<h2>What the numbers rest on</h2>",
        _notes(scorecard),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>SwiftBolt scorecard</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _by_horizon(scores: Sequence[Scores]) -> list[tuple[int, list[Scores]]]:
    horizons = sorted({horizon for _, horizon, _ in scores})
    return [(wanted, [entry for entry in scores if entry[1] == wanted]) for wanted in horizons]


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _section(title: str, lead: str, figures: Sequence[str]) -> str:
    return f'<h2>{escape(title)}</h2>\n<p class="quiet">{escape(lead)}</p>\n<div class="row">\n{"".join(figures)}</div>'


def _figure(horizon: int, svg: str) -> str:
    return f"<figure><figcaption>{horizon} session{'s' if horizon > 1 else ''}</figcaption>\n{svg}\n</figure>\n"


def _svg(width: float, height: float, parts: Sequence[str], label: str) -> str:
    inside = "\n".join(parts)
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" role="img" '
        f'aria-label="{escape(label)}">\n{inside}\n</svg>'
    )


def _text(x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _skill_range(scores: Sequence[Scores]) -> tuple[float, float]:
    """Least and greatest skill of all charts, zero included, so that bars compare across horizons."""
    found = [entry["skill"] for _, _, entry in scores if entry["skill"] is not None]
    return min([0.0, *found]), max([0.0, *found])


def _skill_chart(rows: Sequence[Scores], low: float, high: float) -> str:
    """One bar per model, from zero to its skill."""
    rows = [row for row in rows if row[0] != BENCHMARK]
    width = PANEL_WIDTH - LABEL_WIDTH - VALUE_WIDTH
    scale = width / ((high - low) or 1.0)
    zero = LABEL_WIDTH - low * scale
    height = ROW_HEIGHT * len(rows) + 4
    parts = [_line(zero, 0, zero, height, "rule")]
    for i, (name, _, scores) in enumerate(rows):
        skill, middle = scores["skill"], ROW_HEIGHT * (i + 0.5) + 2
        parts.append(_text(0, middle + 4, name))
        parts.append(_text(PANEL_WIDTH, middle + 4, shown(skill, "+.2%"), "end"))
        if skill is not None:
            left = min(zero, zero + skill * scale)
            parts.append(
                f'<rect x="{left:.1f}" y="{middle - 7:.1f}" width="{abs(skill) * scale:.1f}" height="14" rx="2" '
                f'class="{"good" if skill > 0 else "bad"}"/>'
            )
    return _svg(PANEL_WIDTH, height, parts, "skill per model")


def _coverage_chart(rows: Sequence[Scores]) -> str:
    """One line of three dots per model, and a dashed rule at each nominal level."""
    width = PANEL_WIDTH - LABEL_WIDTH - 16
    top = 18.0
    height = top + ROW_HEIGHT * len(rows) + 4

    def x(share: float) -> float:
        # From 40 % to 100 %, where all intervals of a usable forecast lie.
        return LABEL_WIDTH + width * (max(share, 0.4) - 0.4) / 0.6

    parts = [_line(x(nominal), top, x(nominal), height, "aim") for _, nominal in INTERVALS]
    parts += [_text(x(nominal), 12, f"{nominal * 100:.0f}", "middle", "quiet") for _, nominal in INTERVALS]
    for i, (name, _, scores) in enumerate(rows):
        middle = top + ROW_HEIGHT * (i + 0.5)
        parts += [_text(0, middle + 4, name), _line(LABEL_WIDTH, middle, PANEL_WIDTH - 16, middle, "rule")]
        for key, nominal in INTERVALS:
            share = scores[key]
            if share is not None:
                said = escape(f"{name}: {share:.1%} inside the {nominal:.0%} interval")
                parts.append(
                    f'<circle cx="{x(share):.1f}" cy="{middle:.1f}" r="4.5" class="mark"><title>{said}</title></circle>'
                )
    return _svg(PANEL_WIDTH, height, parts, "interval coverage per model")


def _reliability_chart(bins: Sequence[Mapping[str, Any]]) -> str:
    """Frequency of rises over mean p_up, both from 0 to 1."""
    inner = SQUARE - 2 * MARGIN

    def place(p_up: float, frequency: float) -> tuple[float, float]:
        return MARGIN + p_up * inner, SQUARE - MARGIN - frequency * inner

    parts = [f'<rect x="{MARGIN}" y="{MARGIN}" width="{inner}" height="{inner}" class="rule"/>']
    parts.append(_line(*place(0, 0), *place(1, 1), "aim"))
    for tick in (0.0, 0.5, 1.0):
        x, y = place(tick, tick)
        parts.append(_text(x, SQUARE - MARGIN + 16, f"{tick:.0%}", "middle", "quiet"))
        parts.append(_text(MARGIN - 4, y + 4, f"{tick:.0%}", "end", "quiet"))
    points = [place(b["mean_p_up"], b["rise_frequency"]) for b in bins]
    parts.append(f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" class="curve"/>')
    most = max(b["count"] for b in bins)
    for (x, y), b in zip(points, bins, strict=True):
        said = escape(f"given {b['mean_p_up']:.1%}, rose {b['rise_frequency']:.1%} of {b['count']} times")
        radius = 2.0 + 6.0 * (b["count"] / most) ** 0.5
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="mark"><title>{said}</title></circle>')
    parts.append(_text(SQUARE / 2, SQUARE - 3, "probability of a rise", "middle", "quiet"))
    return _svg(SQUARE, SQUARE, parts, "reliability of the probability of a rise")


def _table(scores: Sequence[Scores]) -> str:
    heads = "".join(f"<th>{escape(head)}</th>" for head in ("model", "horizon", *(c[1] for c in TABLE_COLUMNS)))
    lines = []
    for name, horizon, entry in scores:
        cells = "".join(f"<td>{escape(shown(entry[key], form))}</td>" for key, _, form in TABLE_COLUMNS)
        lines.append(f"<tr><td>{escape(name)}</td><td>{horizon}</td>{cells}</tr>")
    rows = "\n".join(lines)
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>'


def _notes(scorecard: Mapping[str, Any]) -> str:
    """Goals that were not measured, definitions, and where the data may flatter."""
    goals = scorecard["goals"]
    entries = [
        ("prices", scorecard["prices"]),
        ("survivorship", scorecard["survivorship"]),
        *(
            (
                name.replace("_", " "),
                f"the roadmap's goal is {goals[name]['goal']:g}; not measured: {goals[name]['reason']}",
            )
            for name in sorted(goals)
            if goals[name]["measured"] is None
        ),
        *((name.replace("_", " "), text) for name, text in sorted(scorecard["definitions"].items())),
    ]
    items = "\n".join(f"<dt>{escape(str(name))}</dt><dd>{escape(str(text))}</dd>" for name, text in entries)
    return f"<dl>\n{items}\n</dl>"
