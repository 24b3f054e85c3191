"""Read by Python before anything else where this folder is on PYTHONPATH: tells of each fit, and harms those named.

``SWIFTBOLT_FAULTS`` names a folder. Its ``journal`` gets a line for every fit that is begun; its ``plan.json`` says
which fault befalls a fit. Production code knows nothing of all this.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
import json
import os
import sys
import time
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

FAULTS = Path(os.environ["SWIFTBOLT_FAULTS"])


def plan() -> dict[str, Any]:
    return json.loads((FAULTS / "plan.json").read_text())


def befall(key: str) -> None:
    """Called in the worker, before it fits ``key``."""
    with (FAULTS / "journal").open("a") as journal:
        journal.write(f"{os.getpid()} {key}\n")
    match plan()["faults"].get(key):
        case "hold":
            hold()
        case "segfault":
            ctypes.string_at(0)
        case "hoard" if is_first("hoarded"):
            hoard(plan()["hoard_bytes"])


def hold() -> None:
    """Wait to be let go, or killed."""
    (FAULTS / f"held.{os.getpid()}").touch()
    while not (FAULTS / "go").exists():
        time.sleep(0.05)


def hoard(most: int) -> None:
    """Take memory until somebody puts an end to it."""
    hoarded = []
    for _ in range(most // 50_000_000):
        hoarded.append(b"x" * 50_000_000)
        time.sleep(0.05)
    hold()


def is_first(what: str) -> bool:
    try:
        (FAULTS / what).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def plant_in_units(module: Any) -> None:
    run_unit = module.run_unit

    def planted(panel: Any, recipe: Any, unit: Any) -> Any:
        befall(unit.key)
        return run_unit(panel, recipe, unit)

    module.run_unit = planted


def plant_in_train_runs(module: Any) -> None:
    work_through = module.TrainRun.work_through

    def planted(run: Any, work: Any) -> None:
        def harmed(piece: str, *arguments: Any) -> Any:
            befall(piece.rpartition("_")[0])  # without its hash
            return work(piece, *arguments)

        work_through(run, harmed)

    module.TrainRun.work_through = planted


PLANTS: dict[str, Callable[[Any], None]] = {
    "swiftbolt.evaluation.units": plant_in_units,
    "cluster.train_runs": plant_in_train_runs,
}


class Planting(MetaPathFinder):
    """Changes modules as they are imported."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name not in PLANTS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def execute_and_plant(module: Any) -> None:
            execute(module)
            PLANTS[name](module)

        spec.loader.exec_module = execute_and_plant  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, Planting())
