"""Progress of a retrain: what is counted, the lines in a log, the live view in a terminal."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.progress import FAILURES_TOLD, CountedProgress, LineView, Recorder, Renamed, progress_view
from cluster.tally import Tally, clock_text

ROOT = Path(__file__).resolve().parents[2]


class Told:
    """A progress told in lines, with its clock in hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[str] = []
        self.totals: list[tuple[int, int, int]] = []
        clock = lambda: self.now  # noqa: E731
        recorder = Recorder(lambda *counts: self.totals.append(counts), clock)
        self.progress = CountedProgress([LineView(self.lines.append, clock), recorder], clock)

    def done(self, now: float, piece: str, failure: str | None = None, stage: str = "models") -> str:
        """The last line once ``piece`` has ended."""
        self.now = now
        self.progress.done(stage, piece, failure)
        return self.lines[-1]


# What is counted


def test_a_line_names_fits_symbols_failures_and_the_time_left():
    told = Told()
    told.progress.planned("models", ["arima/AA/0", "arima/BB/0", "arima/CC/0", "arima/DD/0"])
    assert told.lines == ["models: 4 fits of arima"]
    assert told.done(40, "arima/AA/0") == "models: 1/4 fits · 1/4 symbols · 0 failed · 0:40 elapsed · about 2:00 left"
    assert told.done(41, "arima/BB/0", "too short") == "models: arima/BB/0 failed: too short"
    told.done(42, "arima/BB/0", "too short")  # told twice, counted once
    told.done(43, "arima/CC/0")
    assert told.done(80, "arima/DD/0") == "models: 4/4 fits · 4/4 symbols · 1 failed · 1:20 elapsed"
    assert told.totals[-1] == (4, 1, 4)


def test_pieces_of_an_earlier_process_do_not_make_the_rest_look_quick():
    tally = Tally("models", [f"arima/S{i}/0" for i in range(1000)], now=0)
    for i in range(900):
        tally.take(f"arima/S{i}/0", False, 12 + i / 1000)  # read from afar for 12 s, then all at once
    assert "left" not in tally.text(12.9)
    for i in range(900, 910):
        tally.take(f"arima/S{i}/0", False, 12.899 + 2 * (i - 899))
    assert tally.text(32.899) == "910/1000 fits · 910/1000 symbols · 0 failed · 0:33 elapsed · about 3:00 left"


def test_a_steady_flow_of_results_is_not_taken_for_an_earlier_process_for_long():
    tally = Tally("models", [f"naive/S{i}/0" for i in range(40_000)], now=0)
    for i in range(20_000):
        tally.take(f"naive/S{i}/0", False, 5 + i / 1000)  # a large cluster: a thousand a second
    assert tally.text(25.0).endswith("about 0:20 left")


def test_no_time_is_promised_before_each_model_has_ended_once():
    tally = Tally("networks", [f"{model}/universe/{fold}" for model in ("lstm", "transformer") for fold in range(3)], 0)
    tally.take("lstm/universe/0", False, 40)
    assert tally.text(40) == "1/6 fits · 0 failed · 0:40 elapsed"
    tally.take("transformer/universe/0", False, 100)
    assert tally.text(100).endswith("1:40 elapsed · about 3:20 left")


def test_a_model_that_an_earlier_process_finished_is_not_waited_for():
    tally = Tally("networks", ["lstm/universe/0", "transformer/universe/0", "transformer/universe/1"], 0)
    tally.take("lstm/universe/0", False, 1)
    tally.take("transformer/universe/0", False, 61)
    assert tally.text(61).endswith("about 1:00 left")


def test_the_time_left_of_fits_over_all_symbols_is_not_guessed_from_those_of_one():
    pooled = [f"xgboost/universe/{fold}" for fold in range(3)]
    tally = Tally("models", [*pooled, "arima/AA/0", "arima/BB/0"], 0)
    tally.take("arima/AA/0", False, 40)
    assert tally.text(40).endswith("about 0:40 left, then 3 fits over all symbols")
    tally.take("arima/BB/0", False, 80)
    assert tally.text(81).endswith("1:21 elapsed")
    tally.take(pooled[0], False, 180)  # it began when the last symbol had ended
    assert tally.text(180).endswith("about 3:20 left")


def test_a_symbol_with_a_stroke_in_its_name_is_one_symbol():
    tally = Tally("models", ["arima/BF/B/0", "arima/BF/A/0"], 0)
    tally.take("arima/BF/B/0", True, 0)
    assert "1/2 symbols" in tally.text(0)
    assert tally.failed_symbols == {"BF/B"}


def test_hours_are_told_where_there_are_any():
    assert [clock_text(seconds) for seconds in (0, 59.6, 3599, 3723)] == ["0:00", "1:00", "59:59", "1:02:03"]


# Lines


def test_lines_come_at_most_every_few_seconds_but_always_at_the_end():
    told = Told()
    pieces = [f"naive/S{i}/0" for i in range(100)]
    told.progress.planned("models", pieces)
    for i, piece in enumerate(pieces):
        told.done(i / 100, piece)
    assert len(told.lines) == 3
    assert told.lines[-1].startswith("models: 100/100 fits")
    assert told.totals == [(0, 0, 100), (100, 0, 100)]


def test_failures_without_end_do_not_flood_a_log():
    told = Told()
    told.progress.planned("models", [f"naive/S{i}/0" for i in range(500)])
    for i in range(500):
        told.done(0, f"naive/S{i}/0", "bad")
    assert sum("failed: bad" in line for line in told.lines) == FAILURES_TOLD
    assert sum("swiftbolt runs show" in line for line in told.lines) == 1
    assert told.totals[-1] == (500, 500, 500)


def test_a_second_walk_is_told_under_stages_of_its_own():
    told = Told()
    told.progress.planned("models", ["naive/AA/0"])
    again = Renamed(told.progress, "champion's ")
    again.planned("models", ["naive/AA/0", "naive/BB/0"])
    again.done("models", "naive/AA/0")
    assert told.lines[-1].startswith("champion's models: 1/2 fits")
    assert told.totals[-1] == (0, 0, 3)


def test_a_file_gets_plain_lines():
    file, lines = io.StringIO(), []
    with progress_view(lines.append, file) as (progress, write):
        progress.planned("models", ["naive/AA/0"])
        write("a message")
        progress.done("models", "naive/AA/0")
    assert file.getvalue() == ""
    assert lines[:2] == ["models: 1 fits of naive", "a message"]
    assert lines[-1].startswith("models: 1/1 fits · 1/1 symbols")


# The live view

RETRAIN = """
import sys
from cluster.progress import progress_view
with progress_view(lambda line: print(line, flush=True), sys.stdout) as (progress, write):
    pieces = [f"arima/S{i}/0" for i in range(40)]
    progress.planned("models", pieces)
    progress.planned("networks", ["lstm/universe/0", "lstm/universe/1"])
    for piece in pieces:
        progress.done("models", piece, "singular" if piece == "arima/S7/0" else None)
    write("written by the view: " + "x" * 100)
    print("printed by somebody else")
    progress.done("networks", "lstm/universe/0")
print("after it")
"""

INTERRUPTED = """
import sys
from cluster.live_view import LiveView
from cluster.progress import CountedProgress
try:
    with LiveView(sys.stdout, busy=lambda: "1 of 2 CPUs at work") as live:
        CountedProgress([live]).planned("models", ["arima/AA/0"])
        raise KeyboardInterrupt
except KeyboardInterrupt:
    print("interrupted")
"""


def on_a_terminal(program: str, term: str = "xterm-256color") -> str:
    """What ``python -c program`` shows on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": term, "COLUMNS": "80", "LINES": "24"}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=theirs, stderr=theirs, cwd=ROOT, env=environment
    ) as child:
        os.close(theirs)
        shown = b""
        while chunk := _read(ours):
            shown += chunk
    os.close(ours)
    assert child.returncode == 0, shown.decode()
    return shown.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so where the other end is closed
        return b""


def screen(shown: str) -> list[str]:
    """The lines on the screen once all of it was shown: what a terminal makes of what rich sends."""
    lines, row = [""], 0
    for token in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", shown):
        if token == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif token.endswith("A") and token.startswith("\x1b"):
            row -= int(token[2:-1] or 1)
        elif token == "\x1b[2K":
            lines[row] = ""
        elif not token.startswith(("\x1b", "\r")):
            lines[row] += token
    return [line.rstrip() for line in lines]


@pytest.fixture(scope="module")
def shown() -> list[str]:
    """The screen after ``RETRAIN``."""
    return screen(on_a_terminal(RETRAIN))


def test_a_terminal_shows_a_bar_and_the_last_failures(shown):
    at = shown.index(next(line for line in shown if line.startswith("models: 40/40 fits")))
    assert shown[at].startswith("models: 40/40 fits · 40/40 symbols · 1 failed")
    assert re.fullmatch(r"networks\s+━+\S*━+\s+50%", shown[at + 1])
    assert shown[at + 2].startswith("networks: 1/2 fits · 0 failed")
    assert shown[at + 3] == "failed: arima/S7/0: singular"


def test_messages_stand_above_the_live_view_and_what_comes_after_below(shown):
    places = [
        next(i for i, line in enumerate(shown) if text in line)
        for text in ("written by the view", "printed by somebody else", "models: 40/40", "after it")
    ]
    assert places == sorted(places)
    assert sum("models: 40/40" in line for line in shown) == 1


def test_the_cpus_at_work_are_shown_until_the_view_ends_and_an_interrupt_leaves_the_terminal_whole():
    sent = on_a_terminal(INTERRUPTED)
    assert "1 of 2 CPUs at work" in sent
    assert sent.rindex("\x1b[?25h") > sent.rindex("\x1b[?25l")  # the cursor is back
    left = screen(sent)
    assert any(line.startswith("models: 0/1 fits") for line in left)
    assert not any("CPUs" in line for line in left)
    assert left[-2] == "interrupted"


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines():
    shown = on_a_terminal(RETRAIN, term="dumb")
    assert "\x1b" not in shown
    assert "models: 40 fits of arima" in shown
