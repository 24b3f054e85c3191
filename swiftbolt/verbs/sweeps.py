"""The verb about sweeps: start or resume one, and write the winner's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from swiftbolt.console import print_json, print_line
from swiftbolt.errors import ConfigError
from swiftbolt.verbs.shared import AsJson, become

sweep = typer.Typer(invoke_without_command=True)


@sweep.callback()
def start(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option(help="Sweep file, such as configs/sweeps/lstm.yaml.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="dotted.key=value for this run.")] = None,
    resume: Annotated[str | None, typer.Option(help="Go on with this run, which ended before it was done.")] = None,
) -> None:
    """Search a model's settings on Ray; ``swiftbolt sweep best RUN`` shows or writes the best."""
    if context.invoked_subcommand is not None:
        for option, value in {"--config": config, "--set": overrides, "--resume": resume}.items():
            if value:
                raise ConfigError("swiftbolt sweep", option, f"belongs to a sweep, not to {context.invoked_subcommand}")
        return
    if config is None:
        raise ConfigError("swiftbolt sweep", "--config", "name a sweep file, such as configs/sweeps/lstm.yaml")
    if not config.is_file():
        raise ConfigError(str(config), "", "no such file")
    words = [word for override in overrides or () for word in ("--set", override)]
    become("cluster.sweep", "--config", str(config), *words, *(("--resume", resume) if resume else ()))


@sweep.command()
def best(
    run: Annotated[str, typer.Argument(help="The sweep, as swiftbolt runs names it.")],
    write: Annotated[
        Path | None, typer.Option(help="Settings file of the model to write or replace, in configs/models/.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the settings that won a sweep, or write them with where they come from."""
    from swiftbolt.evaluation.sweep_results import SweepFolder, winner, winner_text, write_winner
    from swiftbolt.settings import Settings

    folder = SweepFolder(Settings().home, run)
    plan, trials = folder.plan(), folder.trials()
    chosen = winner(trials, run)
    if write is not None:
        write_winner(plan, trials, write)
    if as_json:
        told: dict[str, Any] = {"run": run, "model": plan.model, "trial": chosen.number, "objective": chosen.loss}
        print_json({**told, "parameters": chosen.parameters, "written": write})
    elif write is not None:
        print_line(f"the settings of trial {chosen.number}, objective {chosen.loss:.5f}, are in {write}")
    else:
        print_line(winner_text(plan, trials).rstrip())
