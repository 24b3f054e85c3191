"""Verbs that run the whole of SwiftBolt on this machine, and end it: demo, stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from swiftbolt.console import print_line


def demo(
    port: Annotated[int, typer.Option(help="Port of the HTTP service.")] = 8000,
    dashboard_port: Annotated[int, typer.Option(help="Port of Ray's dashboard and jobs.")] = 8265,
    ray_port: Annotated[int, typer.Option(help="Port of the Ray head.")] = 6379,
    project: Annotated[Path, typer.Option(help="Folder of the checkout.")] = Path(),
    config: Annotated[Path, typer.Option(help="Retrain recipe, relative to the checkout.")] = Path(
        "configs/retrain/demo.yaml"
    ),
) -> None:
    """Ingest the bundled sample, retrain on Ray, promote, serve and print the forecasts; the service stays up."""
    from rich.console import Console

    from swiftbolt.demo import run_demo
    from swiftbolt.local import Ports
    from swiftbolt.settings import Settings

    run_demo(
        Settings(),
        Ports(service=port, dashboard=dashboard_port, ray=ray_port),
        project.absolute(),
        config,
        Console(soft_wrap=True),
    )


def stop() -> None:
    """End everything that ``demo`` left running: Ray, the service and the embedded database."""
    from swiftbolt.demo import stop_demo
    from swiftbolt.settings import Settings

    ended, database = stop_demo(Settings())
    print_line(f"ended {ended} processes" + (" and the embedded database" if database else ""))
