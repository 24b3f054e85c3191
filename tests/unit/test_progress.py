"""Progress lines of a retrain."""

from __future__ import annotations

from cluster.progress import LineProgress


def test_a_line_names_fits_symbols_failures_and_the_time_left() -> None:
    now = [0.0]
    lines: list[str] = []
    told: list[tuple[int, int, int]] = []
    progress = LineProgress(
        write=lines.append,
        clock=lambda: now[0],
        on_change=lambda done, failed, total: told.append((done, failed, total)),
    )
    progress.planned("models", ["arima/AA/0", "arima/BB/0", "arima/universe/0", "arima/CC/0"])
    now[0] = 10.0
    progress.done("models", "arima/AA/0")
    assert lines[-1] == "models: 1/4 fits · 1/3 symbols · 0 failed · 0:10 elapsed · about 0:30 left"
    now[0] = 11.0
    progress.done("models", "arima/BB/0", "too short")
    assert lines[-1] == "models: arima/BB/0 failed: too short"
    progress.done("models", "arima/BB/0", "too short")  # told twice, counted once
    progress.done("models", "arima/universe/0")
    now[0] = 20.0
    progress.done("models", "arima/CC/0")
    assert lines[-1] == "models: 4/4 fits · 3/3 symbols · 1 failed · 0:20 elapsed"
    assert told[-1] == (4, 1, 4)


def test_lines_come_at_most_every_few_seconds_but_always_at_the_end() -> None:
    now = [0.0]
    lines: list[str] = []
    progress = LineProgress(write=lines.append, clock=lambda: now[0])
    pieces = [f"naive/S{i}/0" for i in range(100)]
    progress.planned("models", pieces)
    for piece in pieces:
        now[0] += 0.01
        progress.done("models", piece)
    assert len(lines) == 3
    assert lines[-1].startswith("models: 100/100 fits")


def test_no_time_is_promised_before_each_model_has_ended_once() -> None:
    now = [0.0]
    lines: list[str] = []
    progress = LineProgress(write=lines.append, clock=lambda: now[0])
    progress.planned("models", [*(f"arima/S{i}/0" for i in range(8)), "xgboost/universe/0", "xgboost/universe/1"])
    now[0] = 40.0
    progress.done("models", "xgboost/universe/0")
    assert "left" not in lines[-1]
    now[0] = 44.0
    progress.done("models", "arima/S0/0")
    assert lines[-1].endswith("0:44 elapsed · about 2:56 left")


def test_a_symbol_with_a_stroke_in_its_name_is_one_symbol() -> None:
    lines: list[str] = []
    progress = LineProgress(write=lines.append, clock=lambda: 0.0)
    progress.planned("models", ["arima/BF/B/0", "arima/BF/A/0"])
    progress.done("models", "arima/BF/B/0")
    assert "1/2 symbols" in lines[-1]
