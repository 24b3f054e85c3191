"""What every program of this half does around its work: its options, its lines on stdout, its exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from cluster.run_records import Line
from swiftbolt.errors import SwiftBoltError
from swiftbolt.exit_codes import INTERRUPTED, exit_code, one_line


def parser_of(program: str, description: str, configs: str) -> argparse.ArgumentParser:
    """``--config``, one of ``configs``, and ``--set``."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--config", type=Path, required=True, help=f"A file of {configs}.")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="Change one key for this run.")
    return parser


def run_program(work: Callable[[Line], object], interrupted: str = "interrupted") -> int:
    """Do ``work``, which writes its lines to stdout; exit codes as the ``swiftbolt`` command gives them."""
    try:
        work(lambda line: print(line, flush=True))
    except SwiftBoltError as exc:
        print(one_line(exc), file=sys.stderr)
        return exit_code(exc)
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return INTERRUPTED
    return 0
