"""``make bench``: every benchmark, or ``make bench CASE=features`` for one; each has a named peer in the same run."""

from __future__ import annotations

import sys
from importlib import import_module

CASES = ("features", "store", "arima", "xgboost", "networks", "retrain", "capacity")
# Half an hour and more: only when asked for by name.
LONG_CASES = ("targets",)
MODULES = {"xgboost": "xgboost_trees"}  # a module of a library's own name would hide it


def main(wanted: list[str]) -> int:
    """Run the wanted cases, by default all but the long ones; 2 when one does not exist."""
    unknown = sorted(set(wanted) - {*CASES, *LONG_CASES})
    if unknown:
        sys.stderr.write(f"error: no benchmark {', '.join(unknown)}; there are {', '.join((*CASES, *LONG_CASES))}\n")
        return 2
    for case in wanted or CASES:
        import_module(f"benchmarks.{MODULES.get(case, case)}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
