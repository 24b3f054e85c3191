"""Runs: what was computed when, how far it came and how it ended."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from psycopg.types.json import Jsonb

from swiftbolt.errors import NotFound
from swiftbolt.store.connection import Operations
from swiftbolt.store.rows import LEASE_SILENT_S, RunRow
from swiftbolt.store.statements import statement


class RunOperations(Operations):
    """The table ``runs``."""

    def start_run(self, kind: str, config: Mapping[str, Any], *, now: datetime, identity: str | None = None) -> str:
        """Record that a run begins; returns its name, such as ``retrain-20261122-143000-ab12`` (UTC).

        Args:
            config: what it was asked to do, as JSON can hold it.
            now: an aware time.
            identity: of what it is to make; one that died is found by it (``unfinished_run``).
        """
        if now.tzinfo is None:
            raise ValueError("a run starts at an aware time")
        # The suffix parts runs of one second, also those of two databases over one folder of artifacts.
        run = f"{kind}-{now.astimezone(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        values = {"run": run, "kind": kind, "config": Jsonb(dict(config)), "started": now, "identity": identity}
        self._database.execute("insert_run", values)
        return run

    def unfinished_run(self, kind: str, identity: str) -> RunRow | None:
        """The newest run that was to make the same, unless it succeeded; one that looks as if it ran may be dead."""
        return next(iter(self._database.rows(RunRow, "unfinished_run", {"kind": kind, "identity": identity})), None)

    def progress_run(self, run: str, done: int, failed: int, total: int) -> None:
        """Record how many of ``total`` symbols are done and how many failed.

        Raises:
            NotFound: there is no such run.
        """
        self._update_run("progress_run", {"run": run, "done": done, "failed": failed, "total": total})

    def resume_run(self, run: str) -> None:
        """Record that a run which ended before it was done, or was killed, goes on.

        Raises:
            NotFound: there is no such run.
        """
        self._update_run("resume_run", {"run": run})

    def finish_run(
        self,
        run: str,
        state: Literal["succeeded", "failed"],
        seconds: float,
        failures: Mapping[str, str],
        receipt: Mapping[str, Any] | None = None,
    ) -> None:
        """Record how a run ended.

        Args:
            failures: the reason of each symbol that failed.
            receipt: what it took and what came of it, as JSON can hold it.

        Raises:
            NotFound: there is no such run.
        """
        values = {
            "run": run,
            "state": state,
            "seconds": seconds,
            "failures": Jsonb(dict(failures)),
            "receipt": None if receipt is None else Jsonb(dict(receipt)),
        }
        self._update_run("finish_run", values)

    def run_config(self, run: str) -> dict[str, Any]:
        """What a run was asked to do, as ``start_run`` was told.

        Raises:
            NotFound: there is no such run.
        """
        config: dict[str, Any] = self._of_run("run_config", run)
        return config

    def receipt(self, run: str) -> dict[str, Any] | None:
        """What a run took and what came of it; None before it is done.

        Raises:
            NotFound: there is no such run.
        """
        receipt: dict[str, Any] | None = self._of_run("receipt", run)
        return receipt

    def _of_run(self, name: str, run: str) -> Any:
        """The one value that a query finds of a run."""
        with self._database.connection() as connection:
            found = connection.execute(statement(name), {"run": run}).fetchone()
        if found is None:
            raise NotFound(f"no run {run!r}")
        return found[0]

    def _update_run(self, name: str, values: Mapping[str, Any]) -> None:
        if self._database.execute(name, values) == 0:
            raise NotFound(f"no run {values['run']!r}")

    def runs(self) -> list[RunRow]:
        """Every run, newest first."""
        return self._database.rows(RunRow, "runs", {"silent_s": LEASE_SILENT_S})
