"""The receipt of a retrain: what it gathers, how it groups failures, what it tells people."""

from __future__ import annotations

import json
from datetime import date

from swiftbolt.evaluation.gate import NOT_ASKED, Verdict
from swiftbolt.evaluation.receipt import UNITS, Receipt, group_failures, receipt_lines
from swiftbolt.release import Release
from swiftbolt.store import UnitTotal
from swiftbolt.universe import Cohort

RUN = "retrain-20261122-143000-ab12"
RELEASE = Release(
    run=RUN,
    release_digest="d" * 64,
    origin=date(2013, 3, 1),
    symbols=("AAPL", "IBM"),
    models=("arima", "xgboost"),
    skipped={"FB": "FB has 196 sessions, needs 750", "ZZ": "ZZ has 196 sessions, needs 750"},
    spec_hash="5" * 64,
    data_hash="a" * 64,
    cohort=Cohort.of(("AAPL", "IBM")),
)
SCORES = {"1": {"skill": 0.012, "coverage_95": 0.948}, "20": {"skill": None, "coverage_95": 0.93}}
SCORECARD = {
    "extra": {"code_version": "0.5.0+c0de", "recipe": {"seed": 7, "folds": {"count": 4}}, "symbols": ["A", "B", "C"]},
    "folds": [{"fold": 0}, {"fold": 1}],
    "origins": {"first": "2012-01-03", "last": "2012-12-31", "sessions": 250},
    "models": {"naive": SCORES, "arima": SCORES, "xgboost": SCORES, "ensemble": dict(reversed(SCORES.items()))},
}
FAILURES = {
    "arima/BF/B/0": "BF/B: no forecast",
    "arima/AAPL/0": "AAPL: no forecast",
    "arima/AAPL/live": "AAPL: no forecast",
    "xgboost/universe/1": "out of memory",
    **RELEASE.skipped,
}


TOTALS = [
    UnitTotal(model="arima", waiting=0, done=9, failed=3, attempts=13, seconds=120.0, cpu_seconds=118.5, peak_mb=412.3),
    UnitTotal(model="xgboost", waiting=0, done=2, failed=1, attempts=3, seconds=60.0, cpu_seconds=110.0, peak_mb=None),
]


def receipt(verdict: Verdict | None = None, **changed) -> Receipt:
    """A receipt with every part in it."""
    given = {
        "run": RUN,
        "release": RELEASE,
        "version": 3,
        "verdict": verdict,
        "scorecard": SCORECARD,
        "totals": TOTALS,
        "failures": FAILURES,
        "seconds": 131.9,
        "cpus": 2.0,
        "starts": 2,
        "identity": "1d" * 32,
    }
    return Receipt.of(**{**given, **changed})


def test_it_holds_what_went_in_what_came_out_and_what_it_took():
    made = receipt()
    assert (made.data_hash, made.spec_hash, made.code_version, made.seed) == ("a" * 64, "5" * 64, "0.5.0+c0de", 7)
    assert made.config == SCORECARD["extra"]["recipe"]
    assert (made.universe, made.symbols, made.folds, made.sessions["sessions"]) == (3, 2, 2, 250)
    assert [(score["model"], score["horizon"]) for score in made.scores] == [
        ("ensemble", 1), ("ensemble", 20), ("arima", 1), ("arima", 20), ("xgboost", 1), ("xgboost", 20),
    ]  # fmt: skip
    assert made.scores[0] == {"model": "ensemble", "horizon": 1, "skill": 0.012, "coverage_95": 0.948}
    assert made.models[0] == {
        "model": "arima", "done": 9, "failed": 3, "attempts": 13, "seconds": 120.0, "cpu_seconds": 118.5,
        "peak_mb": 412.3,
    }  # fmt: skip


def test_failures_and_skipped_symbols_stand_apart_each_by_reason():
    made = receipt()
    assert [(group.reason, group.count, group.symbols, group.first) for group in made.failures] == [
        ("<symbol>: no forecast", 3, 2, ("AAPL", "BF/B")),
        ("out of memory", 1, 1, ("universe",)),
    ]
    assert [str(group) for group in made.skipped] == ["2x <symbol> has 196 sessions, needs 750 (FB, ZZ)"]


def test_a_symbol_is_taken_out_of_a_reason_only_where_it_is_a_word():
    reasons = [("A", "A: failed At A.B by A."), ("BRK.B", "BRK.B and BRK.BX"), ("C+", "C+ is (C+)")]
    assert [group.reason for group in group_failures(reasons)] == [
        "<symbol> and BRK.BX",
        "<symbol> is (<symbol>)",
        "<symbol>: failed At A.B by <symbol>.",
    ]


def test_of_many_symbols_the_first_three_are_named():
    (group,) = group_failures((f"S{i}", f"S{i} is bad") for i in (4, 2, 3, 1, 1))
    assert str(group) == "5x <symbol> is bad (S1, S2, S3, ...)"


def test_every_number_says_what_it_is_counted_in():
    told = receipt().to_json()
    for key in ("seconds", "cpus", "starts"):
        assert key in told
        assert key in told["units"]
    for row in (*told["scores"], *told["models"]):
        numbers = {key for key, value in row.items() if isinstance(value, float)}
        assert numbers <= set(UNITS)


def test_people_read_the_same_from_json_that_the_store_gave_back():
    made = receipt(Verdict(against="release 2", reasons=("horizon 5: its CRPS is worse",)))
    lines = receipt_lines(json.loads(json.dumps(made.to_json(), sort_keys=True)))
    assert lines == made.lines()
    told = "\n".join(lines)
    for part in (
        f"receipt of {RUN}, identity 1d1d1d1d1d1d",
        "release 3, digest dddddddddddd",
        "data aaaaaaaaaaaa, features 555555555555, code 0.5.0+c0de, seed 7",
        "2 symbols forecast of 3 trained on; 2 test folds, 250 sessions from 2012-01-03 to 2012-12-31",
        "ensemble     skill +1.20% (1), - (20); in 95 % 94.8% (1), 93.0% (20)",
        "arima               9       3        13      120.0      118.5      412",
        "xgboost             2       1         3       60.0      110.0        -",
        "failed: 3x <symbol>: no forecast (AAPL, BF/B)",
        "skipped: 2x <symbol> has 196 sessions, needs 750 (FB, ZZ)",
        "gate: inconclusive, against release 2",
        "not promoted: horizon 5: its CRPS is worse",
        "132 s on 2 CPUs, 2 starts",
    ):
        assert part in told


def test_it_says_where_the_gate_was_not_asked():
    assert "  gate: not asked, not to be promoted" in receipt(None).lines()
    assert f"  {NOT_ASKED.lines()[0]}" in receipt(NOT_ASKED).lines()
    assert receipt(None).to_json()["gate"] is None
    assert receipt(NOT_ASKED).to_json()["gate"]["outcome"] == "promote"
