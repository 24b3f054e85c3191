"""The scorecard as one HTML page: inline SVG, no script, nothing fetched, light or dark as the reader's system is.

A pure function of the scorecard, whether fresh or read back from JSON: equal scorecards give equal bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from swiftbolt.ensemble.weights import ENSEMBLE, in_order
from swiftbolt.evaluation import plots
from swiftbolt.evaluation.markup import Cell, html_table, paragraph, quiet
from swiftbolt.evaluation.plots import Scores
from swiftbolt.evaluation.report_trials import trials_section
from swiftbolt.evaluation.scorecard import BENCHMARK, GOAL_FORMS, claim_sentences, ordered_scores, shown, span_sentence

REASONS_SHOWN = 20  # of a long list; the scorecard holds all

NUMBERS = (
    ("n", "scored", "d"),
    ("sessions", "sessions", "d"),
    ("crps", "CRPS", ".6f"),
    ("skill", "skill", "+.2%"),
    ("location_skill", "of location", "+.2%"),
    ("scale_skill", "of scale", "+.2%"),
    ("coverage_95", "in 95 %", ".1%"),
    ("coverage_90", "in 90 %", ".1%"),
    ("coverage_50", "in 50 %", ".1%"),
    ("directional_accuracy", "right side", ".1%"),
    ("rmse", "RMSE", ".5f"),
    ("mae", "MAE", ".5f"),
    ("r2", "R2", "+.2%"),
    ("calibration_error", "calibration error", ".3f"),
)
TESTS = (
    ("diebold_mariano", "Diebold-Mariano t", "statistic", "+.2f"),
    ("location_skill", "location t", "statistic", "+.2f"),
    ("pesaran_timmermann", "side beyond chance", "value", "+.2%"),
    ("accuracy_over_constant", "beyond one side", "value", "+.2%"),
    ("rank_ic", "rank IC", "value", "+.3f"),
    ("net_sharpe", "net return a day", "value", "+.3%"),
    ("net_alpha", "beyond always long", "value", "+.3%"),
)
STATES = (
    ("coverage_90_terciles", "in 90 %: calm / middling / wild", "terciles"),
    ("coverage_90_after_breaks", "after breaks", "after_breaks"),
    ("coverage_95_terciles", "in 95 %: calm / middling / wild", "terciles"),
    ("coverage_95_after_breaks", "after breaks", "after_breaks"),
    ("coverage_at_goal", "share with 62 % right", "coverage_at_goal"),
)
EARNINGS = (
    ("sharpe_ratio", "Sharpe", ".2f"),
    ("max_drawdown", "drawdown", ".1%"),
    ("turnover", "turnover", ".1%"),
    ("exposure", "exposure", ".0%"),
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
.scroll { overflow-x: auto; margin-top: .75rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { color: var(--quiet); font-weight: 500; }
td.good { color: var(--good); font-weight: 600; } summary { cursor: pointer; margin-top: .75rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; } dd { margin: 0; }
"""


def render_report(scorecard: Mapping[str, Any]) -> str:
    """The page as text. Everything in ``scorecard`` is escaped."""
    scores = ordered_scores(scorecard)
    body = [
        "<h1>Scorecard</h1>",
        paragraph(f"Strictly out of sample: {span_sentence(scorecard)}."),
        "<h2>What may be claimed</h2>",
        *(paragraph(sentence) for sentence in claim_sentences(scorecard)),
        "<h2>The ensemble beside the roadmap's goals</h2>",
        _goals(scorecard),
        *_model_plots(scores),
        *_ensemble_plots(scorecard),
        *_importance(scorecard),
        "<h2>Every number</h2>",
        _table(scores, [(head, _number(key, form)) for key, head, form in NUMBERS]),
        "<h2>Tests</h2>",
        quiet("What was measured, and the chance of as much by luck alone; hover a dash for why there is none."),
        _table(
            [entry for entry in scores if entry[0] != BENCHMARK],
            [(head, _test(name, key, form)) for name, head, key, form in TESTS],
        ),
        _claims(scorecard["claims_tested"]),
        "<h2>Intervals by state of the market</h2>",
        quiet("Intervals should hold as well in wild times and after breaks as in calm ones."),
        _table(scores, [(head, _state(key, reason)) for key, head, reason in STATES]),
        "<h2>The simple rule</h2>",
        quiet("What trading each model would have left after costs; nothing more than a yardstick."),
        _table(scores, [(head, _number(key, form, "trading")) for key, head, form in EARNINGS]),
        trials_section(scorecard),
        "<h2>What the numbers rest on</h2>",
        _notes(scorecard),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>SwiftBolt scorecard</title>\n<style>{STYLE}{plots.STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _model_plots(scores: Sequence[Scores]) -> list[str]:
    span = plots.skill_range(scores)
    return [
        _section(
            "Skill against naive",
            "How much lower the CRPS is than that of a driftless random walk with recent volatility, on the same rows.",
            [(horizon, plots.skill_by_model(rows, *span)) for horizon, rows in _by_horizon(scores)],
        ),
        _section(
            "Coverage",
            "Share of outcomes inside the 50 %, 90 % and 95 % intervals; dashed where it should be.",
            [(horizon, plots.coverage_by_model(rows)) for horizon, rows in _by_horizon(scores)],
        ),
    ]


def _ensemble_plots(scorecard: Mapping[str, Any]) -> list[str]:
    """How the ensemble did, in probabilities and in time; a sentence where it has no outcome."""
    if not scorecard["reliability"]:
        return ["<h2>The ensemble</h2>", paragraph("No forecast of an ensemble has an outcome yet.")]
    curves = scorecard["curves"]
    accuracy = {
        horizon: {name: of[horizon] for name, of in curves["selective_accuracy"].items() if of[horizon]}
        for horizon in curves["coverage_by_quarter"]
    }
    sections = [
        (
            "Reliability",
            "On the dashed line a 60 % is a 60 %; larger dots stand for more forecasts, and dots for less than 1 % of "
            "them are left out.",
            _drawn(scorecard["reliability"], plots.reliability),
        ),
        (
            "Accuracy against coverage",
            "If confidence means anything, the line rises to the left; dashed is the goal of 62 %, faint other models.",
            _drawn(accuracy, lambda of_models: plots.selective(of_models, ENSEMBLE)),
        ),
        (
            "Coverage over time",
            "Quarters should scatter narrowly about the dashed 95 %; a run below it is a market the intervals missed.",
            _drawn(curves["coverage_by_quarter"], plots.coverage_by_quarter),
        ),
        (
            "Skill by year",
            "Skill against naive that comes from one year only is not to be relied on.",
            _drawn(curves["skill_by_year"], plots.skill_by_year),
        ),
        (
            "What the simple rule would have earned",
            "Wealth after costs, and below it how deep it fell; dashed is the roadmap's limit of 15 %.",
            _drawn(curves["equity"], plots.equity),
        ),
        (
            "Weights",
            "Weights that leap from fold to fold follow noise; the order of the columns is that of the folds.",
            _weights(scorecard),
        ),
    ]
    return [_section(title, lead, figures) for title, lead, figures in sections if figures]


def _drawn(values: Mapping[str, Any], draw: Callable[[Any], str]) -> list[tuple[int, str]]:
    return [(int(horizon), draw(values[horizon])) for horizon in sorted(values, key=int) if values[horizon]]


def _weights(scorecard: Mapping[str, Any]) -> list[tuple[int, str]]:
    """The ensemble's weights at the start of each fold; nothing where the folds or the weights are not known."""
    known = scorecard["extra"].get("weights", {})
    folds = [(fold["first"], known[str(fold["fold"])]) for fold in scorecard["folds"] if str(fold["fold"]) in known]
    return [
        (horizon, plots.weights([(first, {name: row[name][h] for name in in_order(row)}) for first, row in folds]))
        for h, horizon in enumerate(scorecard["horizons"])
        if folds
    ]


def _importance(scorecard: Mapping[str, Any]) -> list[str]:
    """What each model that tells it looks at; scorecards written before models told it have none."""
    sections = [
        (
            "Importance",
            f"How far each feature moves the median of {name}, as share of the usual move over the horizon: the mean "
            "over test folds.",
            _drawn(by_horizon, plots.importance),
        )
        for name, by_horizon in sorted(scorecard.get("importance", {}).items())
    ]
    return [_section(title, lead, figures) for title, lead, figures in sections if figures]


def _by_horizon(scores: Sequence[Scores]) -> list[tuple[int, list[Scores]]]:
    horizons = sorted({horizon for _, horizon, _ in scores})
    return [(wanted, [entry for entry in scores if entry[1] == wanted]) for wanted in horizons]


def _section(title: str, lead: str, figures: Iterable[tuple[int, str]]) -> str:
    drawn = "".join(
        f"<figure><figcaption>{horizon} session{'s' if horizon > 1 else ''}</figcaption>\n{svg}\n</figure>\n"
        for horizon, svg in figures
    )
    return f'<h2>{escape(title)}</h2>\n{quiet(lead)}\n<div class="row">\n{drawn}</div>'


def _number(key: str, form: str, reason: str = "") -> Callable[[Mapping[str, Any]], Cell]:
    """A cell with the score ``key``, or a dash that says why."""
    return lambda scores: (shown(scores[key], form), _why(scores, scores[key], reason))


def _state(key: str, reason: str) -> Callable[[Mapping[str, Any]], Cell]:
    def cell(scores: Mapping[str, Any]) -> Cell:
        value = scores[key]
        text = " / ".join(f"{share:.1%}" for share in value) if isinstance(value, list) else shown(value, ".1%")
        return text, _why(scores, value, reason)

    return cell


def _test(name: str, key: str, form: str) -> Callable[[Mapping[str, Any]], Cell]:
    def cell(scores: Mapping[str, Any]) -> Cell:
        test = scores["tests"][name]
        if test["p_value"] is None:
            return "-", f' title="{escape(test["reason"])}"'
        said = f"{test[key]:{form}} (p {_chance(test['p_value'])})"
        return said, f' title="t {test["statistic"]:.2f}, {test["sessions"]} sessions"'

    return cell


def _chance(p_value: float) -> str:
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _why(scores: Mapping[str, Any], value: object, reason: str) -> str:
    found = scores["reasons"].get(reason)
    return f' title="{escape(found)}"' if value is None and found else ""


def _table(scores: Sequence[Scores], columns: Sequence[tuple[str, Callable[[Mapping[str, Any]], Cell]]]) -> str:
    lines = [[(name, ""), (str(horizon), ""), *(cell(entry) for _, cell in columns)] for name, horizon, entry in scores]
    return html_table(["model", "horizon", *(head for head, _ in columns)], lines)


def _goals(scorecard: Mapping[str, Any]) -> str:
    """Each goal, and what was measured at each horizon; in colour where it was reached."""
    lines: list[list[Cell]] = []
    for name, (title, form, goal_form) in GOAL_FORMS.items():
        goal = scorecard["goals"][name]
        cells: list[Cell] = []
        for horizon in map(str, scorecard["horizons"]):
            measured = (goal["measured"] or {}).get(horizon)
            reached = measured is not None and goal["reached"][horizon]
            cells.append((shown(measured, form), ' class="good"' if reached else ""))
        lines.append([(title, ""), (format(goal["goal"], goal_form), ""), *cells])
    over_constant = _test("accuracy_over_constant", "value", "+.1%")
    excess = [over_constant(scores) for name, _, scores in ordered_scores(scorecard) if name == ENSEMBLE]
    if excess:
        lines.insert(1, [("beyond always up or always down", ""), ("", ""), *excess])
    horizons = [f"{horizon} session{'s' if horizon > 1 else ''}" for horizon in scorecard["horizons"]]
    note = scorecard["goals"]["directional_accuracy"]["note"]
    return f"{html_table(['', 'goal', *horizons], lines)}\n{quiet(f'{note}.')}"


def _claims(tested: Sequence[Mapping[str, Any]]) -> str:
    """Every claim that was tested, folded away; nothing where none was."""
    if not tested:
        return ""
    lines = [
        [
            (claim["model"], ""),
            (str(claim["horizon"]), ""),
            (claim["claim"], ""),
            (f"{claim['p_value']:.4f}", ""),
            (f"{claim['p_adjusted']:.4f}", ""),
            ("yes" if claim["holds"] else "no", ' class="good"' if claim["holds"] else ""),
        ]
        for claim in tested
    ]
    table = html_table(["model", "horizon", "claim", "p", "p among all", "holds"], lines)
    return f"<details><summary>All {len(tested)} claims tested</summary>\n{table}\n</details>"


def _notes(scorecard: Mapping[str, Any]) -> str:
    """What is missing and why, goals that were not measured, definitions, and where the data may flatter."""
    goals, extra = scorecard["goals"], scorecard["extra"]
    failures = [f"{piece}: {reason}" for piece, reason in sorted(extra.get("failures", {}).items())]
    skipped = [reason for _, reason in sorted(extra.get("skipped", {}).items())]
    entries = [
        ("prices", scorecard["prices"]),
        ("survivorship", scorecard["survivorship"]),
        *((name, _some(reasons)) for name, reasons in (("failed", failures), ("not forecast", skipped)) if reasons),
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


def _some(reasons: Sequence[str]) -> str:
    """The first of them; ``scorecard.json`` holds all."""
    more = len(reasons) - REASONS_SHOWN
    return "; ".join(reasons[:REASONS_SHOWN]) + (f"; and {more} more in scorecard.json" if more > 0 else "")
