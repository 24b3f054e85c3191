"""The report: one page that fetches nothing, equal for equal scorecards, with a plot wherever there is one to draw."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import polars as pl
import pytest
from support.skill_market import Market

from swiftbolt.evaluation.plots import reliability, ticks
from swiftbolt.evaluation.report import render_report
from swiftbolt.evaluation.scorecard import build_scorecard
from swiftbolt.models.explanations import Importance

VOID = {"meta", "line", "rect", "circle", "polyline"}
WEIGHTS = {
    "-1": {"arima": [1.0], "xgboost": [0.0]},  # a burn-in fold, which forecast nothing that is shown
    "0": {"arima": [0.25], "xgboost": [0.75]},
    "1": {"xgboost": [0.4], "arima": [0.6]},
}
SECTIONS = (
    "Reliability",
    "Accuracy against coverage",
    "Coverage over time",
    "Skill by year",
    "What the simple rule would have earned",
    "Weights",
    "Importance",
)
IMPORTANCE = {
    "xgboost": {
        1: Importance(gain={f"f{i}": 10.0 * i for i in range(20)}, shap={f"f{i}": i / 100 for i in range(20)}),
        5: Importance(gain={}, shap={}),  # no tree was kept
    }
}


class Balanced(HTMLParser):
    """Fails on a tag that closes what is not open, and keeps what was said in each heading and title."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.said: dict[str, list[str]] = {"h2": [], "title": []}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.said:
            self.said[self.open[-1]].append(data)


def parsed(page: str) -> Balanced:
    found = Balanced()
    found.feed(page)
    assert found.open == []
    return found


@pytest.fixture(scope="module")
def market() -> Market:
    return Market.drawn(symbols=4, sessions=120, seed=2)


@pytest.fixture(scope="module")
def card(market: Market) -> dict[str, Any]:
    """arima under the ensemble's name, so that it trades and every plot has something to show."""
    frame = market.forecasts.filter(pl.col("model") != "ensemble")
    ensemble = market.of("arima").with_columns(model=pl.lit("ensemble"))
    return build_scorecard(
        pl.concat([frame, ensemble]),
        {"weights": WEIGHTS},
        conditions=market.conditions,
        importance=IMPORTANCE,
        threshold=0.55,
    )


def test_the_report_is_one_page_that_fetches_nothing_and_is_the_same_each_time(card: dict[str, Any]):
    page = render_report(card)
    assert page == render_report(json.loads(json.dumps(card, sort_keys=True)))
    assert not re.search(r"<script|https?:|src=|href=|@import|url\(", page)
    assert "prefers-color-scheme: dark" in page
    assert not re.search(r"\bnan\b|\binf\b|None", page)
    for name in ("naive", "arima", "ensemble"):
        assert f"<td>{name}</td>" in page


def test_every_plot_is_there_with_a_sentence_that_says_what_to_look_for(card: dict[str, Any]):
    page = render_report(card)
    headings = parsed(page).said["h2"]
    assert [title for title in headings if title in SECTIONS] == list(SECTIONS)
    assert page.count("<svg") == page.count("</svg>") == len(SECTIONS) + 2  # and skill and coverage by model
    for title in SECTIONS:
        assert re.search(rf'<h2>{title}</h2>\n<p class="quiet">[A-Z][^<]+\.</p>', page), title


def test_every_mark_lies_within_its_picture(card: dict[str, Any]):
    for width, height, inside in re.findall(
        r'<svg viewBox="0 0 (\d+) (\d+)".*?>(.*?)</svg>', render_report(card), re.S
    ):
        for points in re.findall(r'points="([^"]*)"', inside):
            for x, y in (map(float, point.split(",")) for point in points.split()):
                assert 0 <= x <= float(width)
                assert 0 <= y <= float(height)
        for x, y in re.findall(r'<circle cx="([^"]+)" cy="([^"]+)"', inside):
            assert 0 <= float(x) <= float(width)
            assert 0 <= float(y) <= float(height)


def test_reliability_is_drawn_where_the_forecasts_lie_and_without_bins_that_are_nearly_empty():
    bins = [
        {"mean_p_up": 0.47, "rise_frequency": 1.0, "count": 9},
        {"mean_p_up": 0.52, "rise_frequency": 0.50, "count": 600},
        {"mean_p_up": 0.57, "rise_frequency": 0.58, "count": 391},
    ]
    drawn = reliability(bins)
    assert parsed(drawn).said["title"] == [
        "given 52.0%, rose 50.0% of 600 times",
        "given 57.0%, rose 58.0% of 391 times",
    ]
    assert re.findall(r">(\d+%)</text>", drawn) == ["40%", "50%", "60%", "70%", "40%", "55%", "70%"]


def test_the_weights_are_those_of_the_folds_that_forecast(card: dict[str, Any], market: Market):
    said = parsed(render_report(card)).said["title"]
    assert [text for text in said if text.startswith(("arima: ", "xgboost: ")) and " from 2" in text] == [
        f"arima: 25.0% from {market.origins[0]}",
        f"xgboost: 75.0% from {market.origins[0]}",
        f"arima: 60.0% from {market.origins[60]}",
        f"xgboost: 40.0% from {market.origins[60]}",
    ]


def test_the_features_that_move_the_median_most_are_drawn_by_size_and_said_aloud(card: dict[str, Any]):
    page = render_report(card)
    said = [text for text in parsed(page).said["title"] if "of the usual move" in text]
    assert said[0] == "f19: 19.00% of the usual move, mean gain of its splits 190"
    assert [text.split(":")[0] for text in said] == [f"f{i}" for i in range(19, 7, -1)]
    assert 'aria-label="importance of features: f19 19.0%, f18 18.0%, ' in page
    widths = re.findall(r'width="([^"]+)" height="12.0"', page)
    assert [float(width) / float(widths[0]) for width in widths] == pytest.approx(
        [i / 19 for i in range(19, 7, -1)], abs=0.001
    )


def test_a_scorecard_written_before_models_told_importance_is_rendered_without_it(card: dict[str, Any]):
    page = render_report({key: value for key, value in card.items() if key != "importance"})
    assert "Importance" not in parsed(page).said["h2"]


def test_the_claims_and_the_tests_are_on_the_page(card: dict[str, Any]):
    page = render_report(card)
    assert len(card["claims"]) > 0
    for claim in card["claims"]:
        assert f"<p>- {claim}</p>" in page
    assert f"All {len(card['claims_tested'])} claims tested" in page
    results = {name: card["models"][name]["1"]["tests"]["rank_ic"] for name in ("arima", "xgboost")}
    assert results["arima"]["p_value"] < 0.001
    assert f"<td>{results['arima']['value']:+.3f} (p &lt; 0.001)</td>" in re.sub(r' title="[^"]*"', "", page)
    assert f"{results['xgboost']['value']:+.3f} (p {results['xgboost']['p_value']:.3f})" in page


def test_no_empty_table_of_claims_stands_where_none_was_tested(card: dict[str, Any]):
    assert "claims tested" not in render_report({**card, "claims_tested": []})


def test_what_failed_and_what_was_not_forecast_is_on_the_page(card: dict[str, Any]):
    extra = {"failures": {"xgboost/universe/0": "too <few>"}, "skipped": {f"S{i:02}": f"S{i:02}: x" for i in range(22)}}
    page = render_report({**card, "extra": extra})
    assert "<dt>failed</dt><dd>xgboost/universe/0: too &lt;few&gt;</dd>" in page
    assert "<dt>not forecast</dt><dd>S00: x; S01: x; " in page
    assert "; S19: x; and 2 more in scorecard.json</dd>" in page
    assert "<dt>failed</dt>" not in render_report({**card, "extra": {}})


def test_a_number_that_is_missing_says_why(market: Market):
    page = render_report(build_scorecard(market.forecasts))
    assert '<td title="no prices were handed in">-</td>' in page
    assert "What the simple rule would have earned" not in page
    assert "Weights" not in page
    parsed(page)


def test_the_report_escapes_whatever_a_name_or_a_sentence_holds(market: Market):
    frame = market.forecasts.with_columns(model=pl.col("model").replace("arima", '<b>&"'))
    page = render_report(build_scorecard(frame, {"adjustment": "<script>alert(1)</script>"}))
    assert "<b>" not in page
    assert "<script>" not in page
    assert "&lt;b&gt;&amp;&quot;" in page
    parsed(page)


def test_the_report_of_forecasts_without_outcomes_or_ensemble_still_stands(market: Market):
    young = market.of("arima").with_columns(realized=pl.lit(None, dtype=pl.Float64))
    page = render_report(build_scorecard(young, conditions=market.conditions))
    assert "No forecast of an ensemble has an outcome yet." in page
    assert "nan" not in page
    parsed(page)
    empty = render_report(build_scorecard(market.forecasts.clear(), conditions=market.conditions))
    assert "0 symbols" in empty
    parsed(empty)


def test_an_ensemble_of_one_matured_session_can_be_drawn(market: Market):
    first = market.forecasts.filter(pl.col("origin") == market.origins[0])
    parsed(render_report(build_scorecard(first, {"weights": WEIGHTS}, conditions=market.conditions)))


def test_ticks_are_round_and_within_their_range():
    assert ticks(0.48, 0.63) == [0.5, 0.55, 0.6]
    assert ticks(0, 1, 2) == [0, 0.5, 1.0]
    assert ticks(-0.02, 0.05) == [-0.02, 0.0, 0.02, 0.04]
    assert ticks(1.0, 1.0) == [1.0]
