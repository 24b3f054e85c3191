"""The verb that looks for leaks: certify."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from swiftbolt.console import note, print_json, print_line
from swiftbolt.errors import EnvironmentFault
from swiftbolt.verbs.evaluation import LEAKY, certificate_of
from swiftbolt.verbs.shared import AsJson, refuse_overwriting


def certify(
    bars: Annotated[Path, typer.Option(help="Parquet or CSV file of daily bars.")],
    config: Annotated[Path, typer.Option(help="Recipe, such as configs/evaluate/certify.yaml.")],
    out: Annotated[Path | None, typer.Option(help="JSON file to write the certificate to.")] = None,
    start: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First origin to forecast; earlier is history.")
    ] = None,
    inside_test: Annotated[int, typer.Option(min=0, help="Cuts within each test range.")] = 5,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="dotted.key=value for this run.")] = None,
    as_json: AsJson = False,
) -> None:
    """Replace the future by noise, cut by cut: what changes before the cut is a leak, and the exit status 1."""
    from swiftbolt.evaluation.evaluate import Plan
    from swiftbolt.providers.files import read_market_data

    if out is not None and (out.is_dir() or not os.access(out.absolute().parent, os.W_OK)):
        raise EnvironmentFault(f"{out} cannot be written: choose another --out")
    if out is not None:
        refuse_overwriting("certify", out, [bars, config])
    plan = Plan.read(config, tuple(overrides or ()))
    data = read_market_data(bars, plan.universe.sources, plan.universe.start, plan.universe.end)
    for line in data.faults():
        note(line)
    certificate = certificate_of(plan, data, start, inside_test)
    if out is not None:
        out.write_text(json.dumps(certificate.to_json(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if as_json:
        print_json(certificate.to_json())
    else:
        for line in certificate.lines():
            print_line(line)
        print_line(certificate.verdict())
    if not certificate.is_clean:
        raise typer.Exit(LEAKY)
