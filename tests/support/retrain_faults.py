"""Retrains on Ray clusters of their own, with faults at a chosen moment: what ``tests/faults`` is made of.

A retrain is the real program in a process of its own. Workers tell of each fit they begin, and stop, die or hoard where
a test says so: see ``tests/faults/planted/sitecustomize.py``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import yaml
from support.markets import make_bars
from support.ray_cluster import environ
from support.recipes import TINY_MODELS

from swiftbolt.evaluation.unit_keys import UNIVERSE, symbol_of, unit_key
from swiftbolt.store import ReleaseRow, RunRow, Store, UnitRow

PROJECT = Path(__file__).parents[2]
PLANTED = PROJECT / "tests" / "faults" / "planted"
PATIENCE_S = 600.0  # more than a test may take: pytest loses patience first

Fault = Literal["hold", "segfault", "hoard"]


@dataclass(frozen=True)
class Faults:
    """What befalls the fits of a cluster, and what was told of them."""

    folder: Path

    def plan(self, faults: Mapping[str, Fault] | None = None, *, hoard_bytes: int = 0) -> None:
        """From now on these befall these fits, told by key, or by name and fold in Ray Train; the journal is empty."""
        for path in self.folder.iterdir():
            path.unlink()
        self.replan(faults, hoard_bytes=hoard_bytes)

    def replan(self, faults: Mapping[str, Fault] | None = None, *, hoard_bytes: int = 0) -> None:
        """The same, and the journal goes on."""
        told = {"faults": dict(faults or {}), "hoard_bytes": hoard_bytes}
        half = self.folder / "plan.half"
        half.write_text(json.dumps(told))
        half.rename(self.folder / "plan.json")

    def held(self) -> int | None:
        """The process that holds still, if there is one."""
        found = (int(path.suffix[1:]) for path in self.folder.glob("held.*"))
        return next((process for process in found if psutil.pid_exists(process)), None)

    def kill_held(self) -> int:
        """Kill the process that holds still; which it was."""
        held = self.held()
        assert held is not None
        os.kill(held, signal.SIGKILL)
        return held

    def let_go(self) -> None:
        """Let it go on."""
        (self.folder / "go").touch()

    def begun(self) -> Counter[str]:
        """How often each fit was begun."""
        journal = self.folder / "journal"
        lines = journal.read_text().splitlines() if journal.exists() else []
        return Counter(line.partition(" ")[2] for line in lines)

    def redone_symbols(self) -> set[str]:
        """Symbols of which a fit was begun more than once."""
        return {symbol_of(name) for name, times in self.begun().items() if times > 1 and "/" in name}


@dataclass(frozen=True)
class Nodes:
    """A Ray cluster; the first node is the head."""

    cluster: Any
    faults: Faults
    folder: Path
    environment: dict[str, str]

    @property
    def outer_environment(self) -> dict[str, str]:
        """Of a process that is no node's: nothing befalls it."""
        return {**os.environ, **{name: value for name, value in self.environment.items() if name.startswith("RAY_")}}

    @property
    def dashboard(self) -> str:
        """Where jobs are submitted."""
        return f"http://{self.cluster.webui_url}"

    def lose_node_of(self, process: int) -> None:
        """Kill the node a worker runs on."""
        above = {parent.pid for parent in psutil.Process(process).parents()}
        nodes = [node.all_processes["raylet"][0].process for node in self.cluster.list_all_nodes()]
        (lost,) = (raylet for raylet in nodes if raylet.pid in above)
        lost.kill()


@contextmanager
def nodes_of(cpus: Sequence[int], *, has_jobs: bool = False, **more: str) -> Iterator[Nodes]:
    """Nodes with so many CPUs each, for the time of the block.

    Args:
        has_jobs: take submitted jobs, too.
        more: of the environment.
    """
    from ray.cluster_utils import Cluster

    # Directly under the temporary directory: socket paths within may have at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="ray"))
    faults = Faults(folder / "faults")
    faults.folder.mkdir()
    faults.plan()
    environment = {
        "RAY_AUTH_MODE": "disabled",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": str(folder),  # also of the note that tells others of this cluster
        "RAY_health_check_initial_delay_ms": "1000",
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_failure_threshold": "5",
        "PYTHONPATH": str(PLANTED),
        "SWIFTBOLT_FAULTS": str(faults.folder),
        **more,
    }
    with environ(environment):
        cluster = Cluster()
        try:
            for number, count in enumerate(cpus):
                head = {"include_dashboard": has_jobs, "dashboard_port": 0} if number == 0 else {}
                cluster.add_node(num_cpus=count, object_store_memory=100_000_000, **head)
            yield Nodes(cluster, faults, folder, {**environment, "RAY_ADDRESS": cluster.address})
        finally:
            cluster.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Scale:
    """How much a retrain has to do: the fewer folds and Train runs, the sooner it is done."""

    symbols: int
    folds: int
    trees: Literal["symbol", "universe"]


FEW = Scale(symbols=4, folds=1, trees="symbol")
MANY = Scale(symbols=20, folds=2, trees="universe")


@dataclass(frozen=True)
class Site:
    """A store with bars, a home and a configuration."""

    folder: Path
    url: str
    scale: Scale

    @classmethod
    def of(cls, folder: Path, url: str, scale: Scale, **resources: object) -> Site:
        """Four small models; the store is empty before."""
        names = [f"S{number:02d}" for number in range(scale.symbols)]
        with Store.connect(url) as store:
            store.migrate()
            store.upsert_bars(make_bars(names, 460, seed=3), source="test")
        models = {**TINY_MODELS, "xgboost": {**TINY_MODELS["xgboost"], "scope": scale.trees}}
        folds = {"count": scale.folds, "test_sessions": 30, "validation_sessions": 40, "min_train_sessions": 260}
        files = {
            "universe.yaml": {"symbols": names, "min_sessions": 400},
            "ensemble.yaml": {"min_weight_sessions": 20, "min_calibration_sessions": 20},
            "retrain.yaml": {
                "universe": "universe.yaml",
                "folds": folds,
                "models": {name: {"config": f"{name}.yaml"} for name in models},
                "ensemble": "ensemble.yaml",
                "seed": 5,
                "resources": {"symbols_per_trial": 1, "trainings_at_once": 1, "use_gpu": False, **resources},
                "promote": "never",
            },
            **{f"{name}.yaml": options for name, options in models.items()},
        }
        for name, content in files.items():
            (folder / name).write_text(yaml.safe_dump(content))
        return cls(folder, url, scale)

    @property
    def fits(self) -> set[str]:
        """Every fit of a run, as the journal names it."""
        symbols = [f"S{number:02d}" for number in range(self.scale.symbols)]
        apart = ["naive", "naive_drift", "arima"] + ["xgboost"] * (self.scale.trees == "symbol")
        pooled = ["lstm", "transformer"] + ["xgboost"] * (self.scale.trees == "universe")
        folds = [*map(str, range(self.scale.folds)), "live"]
        return {f"{model}/{symbol}/{fold}" for model in apart for symbol in symbols for fold in folds} | {
            f"{model}_{fold:02d}" for model in pooled for fold in range(self.scale.folds + 1)
        }

    def command(self, *arguments: str) -> list[str]:
        """The retrain's."""
        return [sys.executable, "-m", "cluster.retrain", "--config", str(self.folder / "retrain.yaml"), *arguments]

    @property
    def own_environment(self) -> dict[str, str]:
        return {"DATABASE_URL": self.url, "SWIFTBOLT_HOME": str(self.folder / "home")}

    def start(self, nodes: Nodes, *arguments: str) -> Driver:
        """Begin a retrain, or go on with one."""
        return self.launch(nodes, self.command(*arguments))

    def launch(self, nodes: Nodes, command: Sequence[str]) -> Driver:
        """The same by another command."""
        output = self.folder / f"output.{len(list(self.folder.glob('output.*')))}"
        with output.open("w") as stream:
            process = subprocess.Popen(
                command,
                cwd=PROJECT,
                env={**os.environ, **nodes.environment, **self.own_environment},
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        return Driver(process, output)

    @contextmanager
    def held_at(self, nodes: Nodes, fit: str, *arguments: str) -> Iterator[Driver]:
        """A retrain that has come to ``fit`` and waits there, something being done by then."""
        nodes.faults.plan({fit: "hold"})
        with self.start(nodes, *arguments) as driver:
            driver.until(lambda: nodes.faults.held() and self.done())
            yield driver

    def retrain(self, nodes: Nodes, *arguments: str) -> str:
        """A whole retrain; its digest."""
        with self.start(nodes, *arguments) as driver:
            driver.succeed()
        return self.releases()[0].release_digest

    def runs(self) -> list[RunRow]:
        """Newest first."""
        with Store.connect(self.url) as store:
            return store.runs()

    def units(self, run: str) -> list[UnitRow]:
        """The ledger of a run."""
        with Store.connect(self.url) as store:
            return store.units(run)

    def done(self) -> dict[str, UnitRow]:
        """The fits of the newest run that are done by the ledger, as the journal names them."""
        runs = self.runs()
        rows = self.units(runs[0].run) if runs else []
        return {name_of(row): row for row in rows if row.state == "done"}

    def releases(self) -> list[ReleaseRow]:
        """Newest first."""
        with Store.connect(self.url) as store:
            return store.releases()

    def require_whole(self, digest: str) -> None:
        """The newest run ended well: one release, with this digest, and every fit once in the ledger, done."""
        run = self.runs()[0]
        rows = self.units(run.run)
        assert run.state == "succeeded"
        assert [release.release_digest for release in self.releases() if release.run == run.run] == [digest]
        assert sorted(map(name_of, rows)) == sorted(self.fits)
        assert {row.state for row in rows} == {"done"}

    def require_kept(self, before: Mapping[str, UnitRow], begun: Mapping[str, int]) -> None:
        """What was done before a fault was not begun again, and stands in the ledger as it stood."""
        assert before
        assert {name: row for name, row in self.done().items() if name in before} == dict(before)
        assert {name: begun[name] for name in before} == dict.fromkeys(before, 1)


@dataclass
class Driver:
    """A retrain in a process of its own, ended with the block."""

    process: subprocess.Popen[bytes]
    output: Path

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def until(self, condition: Callable[[], object]) -> None:
        """Return when something is so; it must become so while the retrain runs."""
        until(condition, lambda: self.process.poll() is None, self.text)

    def text(self) -> str:
        """What it has written so far."""
        return self.output.read_text()

    def end(self) -> int:
        """Wait for its end."""
        return self.process.wait(timeout=PATIENCE_S)

    def succeed(self) -> None:
        """Wait for its end, which must be a good one."""
        assert self.end() == 0, self.text()

    def kill(self) -> None:
        """As the kernel does it: no last words."""
        self.process.kill()
        self.process.wait()


def until(
    condition: Callable[[], object],
    is_running: Callable[[], bool] = lambda: True,
    told: Callable[[], str] = lambda: "",
) -> None:
    """Return when something is so."""
    given_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert is_running(), f"ended before: {told()}"
        assert time.monotonic() < given_up, f"waited in vain: {told()}"
        time.sleep(0.05)


def name_of(row: UnitRow) -> str:
    """As the journal has it."""
    if row.symbol == UNIVERSE:
        return f"{row.model}_{row.fold:02d}"
    return unit_key(row.model, row.symbol, "live" if row.is_live else row.fold)
