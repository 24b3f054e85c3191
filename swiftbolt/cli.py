"""The command line: ``swiftbolt --help``. Here are the list of verbs, the exit codes, and nothing heavy."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from swiftbolt import __version__
from swiftbolt.console import note, print_line
from swiftbolt.errors import SwiftBoltError
from swiftbolt.exit_codes import INTERRUPTED, exit_code, one_line
from swiftbolt.verbs import (
    certify,
    evaluation,
    features,
    ingest,
    local,
    machine,
    releases,
    runs,
    sweeps,
    trials,
    vendors,
)

# Verbs in the order of --help. A new one is a function under verbs/ and a line here.
VERBS: tuple[Callable[..., None], ...] = (
    ingest.ingest,
    ingest.findings,
    vendors.quotes,
    vendors.options,
    vendors.stream,
    features.features,
    evaluation.evaluate,
    certify.certify,
    trials.trials,
    machine.retrain,
    releases.releases,
    releases.promote,
    releases.rollback,
    releases.forecast,
    machine.doctor,
    local.demo,
    local.stop,
)
# Verbs that hand what they do not know to the program they start.
PASSING_ON: tuple[Callable[..., None], ...] = (machine.serve,)
# Verbs with verbs of their own.
GROUPS: dict[str, typer.Typer] = {"sweep": sweeps.sweep, "runs": runs.runs}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
for verb in VERBS:
    app.command()(verb)
for verb in PASSING_ON:
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(verb)
for name, group in GROUPS.items():
    app.add_typer(group, name=name)


def _print_version(wanted: bool) -> None:
    if wanted:
        print_line(f"swiftbolt {__version__}")
        raise typer.Exit


@app.callback()
def swiftbolt(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Train, evaluate and serve stock forecasts on Ray."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status; what went wrong is one line on stderr."""
    command: Any = typer.main.get_command(app)
    try:
        status = command.main(args=list(arguments) or ["--help"], prog_name="swiftbolt", standalone_mode=False)
    except SwiftBoltError as exc:
        note(one_line(exc))
        return exit_code(exc)
    except typer.TyperException as exc:  # an option or argument that does not fit
        note(f"{one_line(exc.format_message())} (see swiftbolt --help)")
        return exc.exit_code
    except (KeyboardInterrupt, typer.Abort):
        note("interrupted")
        return INTERRUPTED
    if status == INTERRUPTED:  # Typer turns some interrupts into a status by itself
        note("interrupted")
    return status if isinstance(status, int) else 0


def main() -> None:
    """Entry point of the ``swiftbolt`` program."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
