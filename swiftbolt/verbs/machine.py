"""Verbs about this machine and the programs on it: retrain, serve, doctor."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from swiftbolt.console import print_json, print_line
from swiftbolt.errors import ConfigError
from swiftbolt.verbs.shared import AsJson, become


class Promote(StrEnum):
    """When a release is served from now on."""

    NEVER = "never"
    GATE = "gate"
    ALWAYS = "always"


def retrain(
    config: Annotated[Path, typer.Option(help="Retrain recipe, such as configs/retrain/demo.yaml.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="dotted.key=value for this run.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew where a run of the same recipe that died could go on.")
    ] = False,
    promote: Annotated[
        Promote | None, typer.Option(help="Whether to serve the release; without it as the configuration says.")
    ] = None,
) -> None:
    """Train every model over a universe on Ray and leave a release; a gate says whether it is served.

    A run that died goes on when the same command is given again.
    """
    if not config.is_file():
        raise ConfigError(str(config), "", "no such file")
    become(
        "cluster.retrain",
        "--config",
        str(config),
        *(word for override in overrides or () for word in ("--set", override)),
        *(("--fresh",) if fresh else ()),
        *(("--promote", promote.value) if promote is not None else ()),
    )


def serve(context: typer.Context) -> None:
    """Serve the active release over HTTP. Every further argument goes to ``python -m serve``."""
    become("serve", *context.args)


def doctor(as_json: AsJson = False) -> None:
    """Check Python, Ray, database, disk, sample and ports, and say how to mend what is wrong."""
    from swiftbolt.doctor import examine
    from swiftbolt.settings import Settings

    checks = []
    for check in examine(Settings()):
        checks.append(check)
        if not as_json:
            print_line(check.line())
    if as_json:
        print_json([asdict(check) for check in checks])
    if not all(check.ok for check in checks):
        raise typer.Exit(1)
