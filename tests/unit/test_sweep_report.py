"""The page of a sweep: every trial on it, no script, nothing that was not escaped."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from support.sweeps import TRIALS, sweep_plan, sweep_trial

from swiftbolt.evaluation.sweep_report import render_sweep

VOID = {"meta", "line", "rect", "circle", "polyline"}


class Balanced(HTMLParser):
    """Fails on a tag that closes what is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        while self.open[-1] == "meta":
            self.open.pop()
        assert self.open.pop() == tag


def render(trials: tuple[object, ...] = TRIALS) -> str:
    page = render_sweep(sweep_plan(), trials)  # type: ignore[arg-type]
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    return page


def test_every_trial_is_a_line_and_a_row_and_the_page_fetches_and_runs_nothing() -> None:
    page = render()
    lines = re.findall(r'<polyline [^>]*class="(\w+)"><title>trial (\d+):', page)
    # In the first plot every trial, the best last; in the second those with a fold.
    assert [number for _, number in lines] == ["3", "1", "0", "2", "1", "0", "2"]
    assert [kind for kind, _ in lines[:4]] == ["failed", "pruned", "complete", "best"]
    assert page.count("<tr>") == 1 + len(TRIALS)
    assert not re.search(r"<script|javascript:|https?://|@import|url\(", page)


def test_what_comes_from_a_trial_is_escaped() -> None:
    page = render()
    assert "no &lt;row&gt; is long enough" in page
    assert "<row>" not in page


def test_importance_has_a_bar_for_every_parameter_once_there_are_trials_to_tell_it() -> None:
    assert "nothing can be said" in render()
    many = tuple(
        sweep_trial(n, 1.0 + n / 50, parameters={"learning_rate": 0.01, "max_depth": 2 + n % 5, "scope": "symbol"})
        for n in range(10)
    )
    page = render(many)
    assert all(f"<title>{key}: " in page for key in sweep_plan().space)


def test_a_sweep_whose_trials_all_failed_has_a_page_too() -> None:
    page = render((TRIALS[3],))
    assert "No fold was done." in page
    assert "trial 3" in page


def test_equal_sweeps_give_equal_pages() -> None:
    assert render() == render(tuple(reversed(TRIALS)))
