"""Runs: what was computed when, how far it came and how it ended."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from psycopg.types.json import Jsonb

from swiftbolt.errors import NotFound
from swiftbolt.store.connection import Operations
from swiftbolt.store.rows import RunRow


class RunOperations(Operations):
    """The table ``runs``."""

    def start_run(self, kind: str, config: Mapping[str, Any], *, now: datetime) -> str:
        """Record that a run begins; returns its name, such as ``retrain-20261122-143000-ab12`` (UTC).

        Args:
            config: what it was asked to do, as JSON can hold it.
            now: an aware time.
        """
        if now.tzinfo is None:
            raise ValueError("a run starts at an aware time")
        # The suffix parts runs of one second, also those of two databases over one folder of artifacts.
        run = f"{kind}-{now.astimezone(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        self._database.execute("insert_run", {"run": run, "kind": kind, "config": Jsonb(dict(config)), "started": now})
        return run

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
        self, run: str, state: Literal["succeeded", "failed"], seconds: float, failures: Mapping[str, str]
    ) -> None:
        """Record how a run ended.

        Args:
            failures: the reason of each symbol that failed.

        Raises:
            NotFound: there is no such run.
        """
        values = {"run": run, "state": state, "seconds": seconds, "failures": Jsonb(dict(failures))}
        self._update_run("finish_run", values)

    def _update_run(self, name: str, values: Mapping[str, Any]) -> None:
        if self._database.execute(name, values) == 0:
            raise NotFound(f"no run {values['run']!r}")

    def runs(self) -> list[RunRow]:
        """Every run, newest first."""
        return self._database.rows(RunRow, "runs")
