"""``make noise``: many panels in which there is nothing to find, and how many of them the scorecard makes a claim of.

Ends with 1 when more do than ``report.TOLERATED`` of all.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import polars as pl
from noise.panels import CONFIG, Examined, examine
from noise.planted import planted_lines
from noise.report import report_lines, tolerated

from swiftbolt.evaluation.evaluate import Plan

ONE_THREAD = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main(words: list[str]) -> int:
    """Examine the panels asked for and print what came of them."""
    parser = argparse.ArgumentParser(prog="noise", description=__doc__)
    parser.add_argument("--panels", type=int, default=200, help="how many (200)")
    parser.add_argument("--first", type=int, default=0, help="number of the first (0)")
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each (2)")
    parser.add_argument("--out", type=Path, help="parquet for every p-value")
    wanted = parser.parse_args(words)
    started = time.perf_counter()
    examined = examine_all(range(wanted.first, wanted.first + wanted.panels), wanted.workers)
    print("\n".join(report_lines(examined)))
    print("\n".join(planted_lines(Plan.read(CONFIG))))
    print(f"{len(examined)} panels in {(time.perf_counter() - started) / 60:.1f} minutes")
    if wanted.out is not None:
        p_value_frame(examined).write_parquet(wanted.out)
    claimed, limit = sum(bool(panel.held) for panel in examined), tolerated(len(examined))
    print(f"{claimed} of {len(examined)} panels show a claim; at most {limit} may")
    return int(claimed > limit)


def examine_all(numbers: range, workers: int) -> list[Examined]:
    """Panels by number, in processes of one thread each; a dot says that one is done."""
    plan = Plan.read(CONFIG)
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))  # read by the processes when they start
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(examine, plan, number) for number in numbers]
        for future in as_completed(waiting):
            sys.stderr.write("!" if future.result().held else ".")
            sys.stderr.flush()
    sys.stderr.write("\n")
    return [future.result() for future in waiting]


def p_value_frame(examined: list[Examined]) -> pl.DataFrame:
    """``panel, clustered, model, horizon, test, p_value``."""
    rows = [
        (panel.number, panel.clustered, *place, p_value)
        for panel in examined
        for place, p_value in panel.p_values.items()
    ]
    return pl.DataFrame(rows, schema=["panel", "clustered", "model", "horizon", "test", "p_value"], orient="row")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
