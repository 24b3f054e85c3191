"""The verb about runs: a list of retrains and sweeps, and all that is known of one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swiftbolt.console import note, print_json, print_line, print_table
from swiftbolt.errors import ConfigError, NotFound
from swiftbolt.verbs.shared import HOW_TO_RETRAIN, AsJson, fields_of, open_store, show_rows

if TYPE_CHECKING:
    from swiftbolt.store import RunRow, UnitTotal

RUN_FIELDS = ("run", "kind", "state", "done", "failed", "total", "seconds")
UNIT_FIELDS = ("model", "symbol", "fold", "attempts", "reason")
RUNS_NAMED = 10  # of a long list, in a message
ENTRIES_SHOWN = 8  # of a list in a configuration

runs = typer.Typer(invoke_without_command=True)


@runs.callback()
def list_runs(context: typer.Context, as_json: AsJson = False) -> None:
    """List the retrains and sweeps and how far each has come; ``swiftbolt runs show RUN`` tells all of one."""
    if context.invoked_subcommand is not None:
        if as_json:
            raise ConfigError("swiftbolt runs", "--json", f"belongs behind {context.invoked_subcommand}")
        return
    with open_store() as store:
        held = store.runs()
    show_rows([fields_of(run, RUN_FIELDS) for run in held], as_json, f"no run yet; start one with: {HOW_TO_RETRAIN}")
    lost = [run for run in held if run.state == "lost"]
    if lost and not as_json:
        note(f"lost: {_how_to_go_on(lost[0])}")


@runs.command()
def show(
    run: Annotated[str, typer.Argument(help="The run, as swiftbolt runs names it.")],
    failed: Annotated[bool, typer.Option("--failed", help="Tell every failed fit, too.")] = False,
    with_config: Annotated[bool, typer.Option("--config", help="Tell what it was asked to do, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a run: state, who works on it, fits by model, failures by reason, at the end its receipt."""
    from swiftbolt.evaluation.receipt import group_failures

    with open_store() as store:
        row = _find(run, store.runs())
        config, lease, receipt = store.run_config(run), store.lease_of(run), store.receipt(run)
        totals, units = store.unit_totals(run), store.units(run, "failed")
    of_symbols = [(symbol, reason) for symbol, reason in row.failures.items() if symbol != "run"]
    groups = group_failures((unit.symbol, unit.reason or "no reason given") for unit in units)
    failed_units = [fields_of(unit, UNIT_FIELDS) for unit in units] if failed else []
    if as_json:
        print_json(
            {
                **fields_of(row, (*RUN_FIELDS, "started")),
                "reason": _reason(row),
                "config": config,
                "lease": None if lease is None else asdict(lease),
                "models": [asdict(total) for total in totals],
                "failures": [asdict(group) for group in groups],
                "left_out": [asdict(group) for group in group_failures(of_symbols)],
                **({"failed_units": failed_units} if failed else {}),
                "receipt": receipt,
            }
        )
        return
    for line in _config_lines(config) if with_config else ():
        print_line(line)
    print_line(_state_line(row))
    if lease is not None:
        print_line(
            f"process {lease.process} on {lease.host} works on it since {lease.taken:%Y-%m-%d %H:%M %Z}, heard of"
            f" {lease.silent_s:.0f} s ago"
        )
    if receipt is not None:
        _print_receipt(receipt)
    else:
        if totals:
            print_table([_total_row(total) for total in totals], "Fits")
        for group in groups:
            print_line(f"failed: {group}")
        for group in group_failures(of_symbols):
            print_line(f"left out: {group}")
    if failed_units:
        print_table(failed_units, "Failed fits")


def _find(run: str, held: Sequence[RunRow]) -> RunRow:
    """The row of ``run``.

    Raises:
        NotFound: there is none.
    """
    found = next((row for row in held if row.run == run), None)
    if found is not None:
        return found
    if not held:
        raise NotFound(f"there is no run {run!r}, nor any other; start one with: {HOW_TO_RETRAIN}")
    newest = ", ".join(row.run for row in held[:RUNS_NAMED])
    more = f", and {len(held) - RUNS_NAMED} older ones" if len(held) > RUNS_NAMED else ""
    raise NotFound(f"there is no run {run!r}; there are {newest}{more}")


def _state_line(row: RunRow) -> str:
    """The state of a run, how far it came, and what to do about it."""
    parts = [f"{row.run}: {row.state}", f"began {row.started:%Y-%m-%d %H:%M %Z}"]
    if row.seconds is not None:
        parts.append(f"took {row.seconds:,.0f} s")
    if row.total:
        parts.append(f"{row.done} of {row.total} done, {row.failed} failed")
    if (reason := _reason(row)) is not None:
        parts.append(reason)
    if row.state == "lost":
        parts.append(_how_to_go_on(row))
    return "; ".join(parts)


def _reason(row: RunRow) -> str | None:
    """Why a run failed; one that goes on keeps the reason of the last time, which is nobody's concern any more."""
    return row.failures.get("run") if row.state == "failed" else None


def _how_to_go_on(row: RunRow) -> str:
    """What a person does about a run whose driver died."""
    if row.kind == "sweep":
        return f"{row.run} lost its driver and goes on with: swiftbolt sweep --config FILE --resume {row.run}"
    return f"{row.run} lost its driver and goes on when the command that began it is given again"


def _print_receipt(receipt: Mapping[str, Any]) -> None:
    from swiftbolt.evaluation.receipt import receipt_lines

    for line in receipt_lines(receipt):
        print_line(line)


def _total_row(total: UnitTotal) -> dict[str, Any]:
    return {
        "model": total.model,
        "waiting": total.waiting,
        "done": total.done,
        "failed": total.failed,
        "attempts": total.attempts,
        "wall s": total.seconds,
        "CPU s": total.cpu_seconds,
        "peak MB": total.peak_mb,
    }


def _config_lines(config: Mapping[str, Any]) -> list[str]:
    """A configuration, one key a line, long lists cut short: ``--json`` has all of it."""
    return [f"{key} = {value}" for key, value in _flat(config, "")]


def _flat(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and len(value) > ENTRIES_SHOWN:
        shown = ", ".join(map(str, value[:ENTRIES_SHOWN]))
        yield key, f"{shown}, ... ({len(value)} in all)"
    elif isinstance(value, list):
        yield key, ", ".join(map(str, value))
    else:
        yield key, str(value)
