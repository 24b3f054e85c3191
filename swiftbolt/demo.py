"""``make demo``: the main job on the bundled sample, from bars to an HTTP answer, on this machine alone.

Starts processes and asks them questions; imports neither the cluster's nor the serving half.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from rich import box
from rich.console import Console
from rich.table import Table

from swiftbolt.errors import EnvironmentFault
from swiftbolt.evaluation.scorecard import summary_lines
from swiftbolt.local import (
    Ports,
    Services,
    child_environment,
    make_run_directory,
    read_services,
    require_free,
    start_services,
    stop_services,
)
from swiftbolt.settings import Settings
from swiftbolt.store import Store, embedded, resolve_url

HORIZONS_SHOWN = (1, 5, 20)
UNIVERSE = Path("configs/universes/demo.yaml")
SERVE = Path("configs/serve/local.yaml")


def run_demo(settings: Settings, ports: Ports, project: Path, retrain_config: Path, console: Console) -> None:
    """Ingest, retrain through a Ray job, promote, serve, print. Leaves the service running.

    Args:
        project: the checkout; its ``configs`` are used and it is what the job uploads.
        retrain_config: relative to ``project``.

    Raises:
        EnvironmentFault: another demo runs, a port is taken, or a step failed; what was started is ended.
    """
    for needed in (UNIVERSE, retrain_config, SERVE):
        if not (project / needed).is_file():
            raise EnvironmentFault(f"{needed} is not here: run make demo in the project's own folder")
    with _only_demo(settings):
        running = read_services(settings)
        if running is not None and running.is_alive:
            raise EnvironmentFault(f"a demo is already running at {running.service_url}: run make stop first")
        require_free(ports)
        where = "the database in DATABASE_URL" if settings.database_url else f"embedded, {settings.postgres_data}"
        try:
            url = resolve_url(settings)
            with Store.connect(url) as store:  # a database that is away is told before anything else is started
                store.migrate()
                earlier = {row.run for row in store.runs()}
            services = start_services(settings, ports, url, where)
            console.print(f"Ray         {services.dashboard_url}  (dashboard and jobs, token authentication on)")
            console.print(f"PostgreSQL  {where}")
            try:
                _steps(settings, services, url, ports, project, retrain_config, console)
            except BaseException:  # also an interrupt: a run of ours must not stay "running"
                stop_services(settings)
                _record_stopped(url, earlier)
                raise
        except BaseException:  # also an interrupt: nothing that was started stays
            console.print("ended what was started")
            stop_demo(settings)
            raise


def _record_stopped(url: str, earlier: set[str]) -> None:
    """Record runs that began after ``earlier`` and were cut off: with their Ray gone, nobody else will."""
    with Store.connect(url) as store:
        for row in store.runs():
            if row.run not in earlier and row.state == "running":
                store.finish_run(row.run, "failed", 0.0, {"run": "stopped before it was done"})


def stop_demo(settings: Settings) -> tuple[int, bool]:
    """End the services and the embedded database. Returns (processes ended, database ended)."""
    ended = stop_services(settings)
    return ended, embedded.stop(settings.postgres_data)


def _steps(
    settings: Settings, services: Services, url: str, ports: Ports, project: Path, config: Path, console: Console
) -> None:
    environment = child_environment(settings, url)
    command = [sys.executable, "-m", "swiftbolt.cli"]

    def run(title: str, arguments: list[str]) -> None:
        console.rule(title, align="left")
        code = subprocess.run(arguments, env=environment, cwd=project, check=False).returncode
        if code:
            raise EnvironmentFault(f"{title} failed with exit code {code}; its output stands above")

    run("ingest", [*command, "ingest", "--provider", "sample", "--universe", str(UNIVERSE)])
    job_environment = {name: environment[name] for name in ("DATABASE_URL", "SWIFTBOLT_HOME")}
    ray = [sys.executable, "-m", "ray.scripts.scripts", "--logging-level", "warning"]
    submit = [*ray, "job", "submit", "--log-style", "pretty", "--address", services.dashboard_url]
    job = ["--working-dir", ".", "--", "python", "-m", "cluster.retrain", "--config", str(config)]
    # .rayignore says what is not uploaded; Ray's own list would only be warned about.
    environment["RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES"] = ""
    run("retrain", [*submit, "--runtime-env-json", json.dumps({"env_vars": job_environment}), *job])
    run("promote", [*command, "promote"])
    environment["RAY_ADDRESS"] = services.ray_address
    serving = [sys.executable, "-m", "serve", "--config", str(SERVE), "--port", str(ports.service), "--detach"]
    run("serve", serving)
    console.rule("forecasts", align="left")
    show_forecasts(services.service_url, console)
    console.print(f"forecasts   {services.service_url}/api/ensemble/forecast?symbol=AAPL&horizon=5")
    console.print(f"docs        {services.service_url}/docs")
    console.print(f"dashboard   {services.dashboard_url}")
    console.print("to end it   make stop")


def show_forecasts(service_url: str, console: Console) -> None:
    """Ask the running service and print what it answers: a table of forecasts, a table of scores."""
    with httpx.Client(base_url=service_url, timeout=30.0) as client:
        symbols = [row["symbol"] for row in _get(client, "/api/symbols") if row["has_forecast"]]
        scorecard = _get(client, "/api/scorecard")
        replies = {
            symbol: {h: _get(client, "/api/ensemble/forecast", symbol=symbol, horizon=h) for h in HORIZONS_SHOWN}
            for symbol in symbols
        }
    console.print(_forecast_table(replies))
    for line in summary_lines(scorecard):
        console.print(line)


def _forecast_table(replies: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> Table:
    """One line per symbol and horizon, narrow enough for a terminal of 80 columns."""
    origins = sorted({reply["as_of"] for by_horizon in replies.values() for reply in by_horizon.values()})
    table = Table(
        title=f"ensemble forecasts after the close of {', '.join(origins)}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        pad_edge=False,
        show_edge=False,
    )
    heads = ("last\nclose", "ses-\nsions", "target", "95 % interval", "direc-\ntion", "confi-\ndence", "agree-\nment")
    table.add_column("symbol", no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for symbol, by_horizon in replies.items():
        for horizon, reply in by_horizon.items():
            first = horizon == HORIZONS_SHOWN[0]
            table.add_row(
                symbol if first else "",
                f"{reply['current_price']:,.2f}" if first else "",
                str(horizon),
                f"{reply['price_target']:,.2f}",
                f"{reply['lower_ci']:,.2f} - {reply['upper_ci']:,.2f}",
                reply["direction"],
                f"{reply['confidence']:.1%}",
                f"{reply['agreement']:.0%}",
                end_section=horizon == HORIZONS_SHOWN[-1],
            )
    return table


def _get(client: httpx.Client, path: str, **parameters: Any) -> Any:
    try:
        reply = client.get(path, params=parameters)
    except httpx.HTTPError as exc:
        raise EnvironmentFault(f"the service did not answer {path}: {exc}") from exc
    if reply.status_code != 200:
        raise EnvironmentFault(f"the service answered {path} with {reply.status_code}: {reply.text[:200]}")
    return reply.json()


@contextmanager
def _only_demo(settings: Settings) -> Iterator[None]:
    """Hold the lock that keeps a second demo out while this one is being set up."""
    make_run_directory(settings)
    with (settings.run_directory / "demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EnvironmentFault("another make demo is running: wait for it, or end it and run make stop") from None
        yield
