"""Waiting for a cluster to have room: said once, and not for ever."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import ray

from cluster.run_records import Line
from swiftbolt.errors import EnvironmentFault

WAITING_TOLD_S = 20.0
_LOOK_S = 2.0


@dataclass(kw_only=True)
class Patience:
    """How long work may wait for its workers.

    Attributes:
        what: waits, in words, such as ``a trial``.
        asked: resources of it by Ray's name for them.
        key: of the configuration that asks for less.
    """

    what: str
    asked: Mapping[str, float]
    key: str
    wait_s: float
    write: Line
    _since: float | None = field(default=None, init=False)
    _has_told: bool = field(default=False, init=False)
    _looked: float = field(default=float("-inf"), init=False)

    def look(self, is_waiting: bool) -> None:
        """Take note of whether the work still waits.

        Raises:
            EnvironmentFault: it has waited for too long.
        """
        now = time.monotonic()
        if not is_waiting:
            self._since = None
            return
        self._since = now if self._since is None else self._since
        waited = now - self._since
        if waited > WAITING_TOLD_S and not self._has_told:
            self._has_told = True
            self.write(f"waiting for workers: {self._asked_and_there()}")
        if waited > self.wait_s:
            raise EnvironmentFault(
                f"no worker could start for {waited:.0f} s: {self._asked_and_there()}; ask for less by"
                f" --set {self.key}=N, or let the cluster grow and run the same command again"
            )

    def look_at_cluster(self) -> None:
        """Take note of whether the whole cluster, were it idle, would have room.

        Raises:
            EnvironmentFault: it has not had any for too long.
        """
        if time.monotonic() - self._looked < _LOOK_S:
            return
        self._looked = time.monotonic()
        there: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        self.look(any(there.get(kind, 0.0) < amount for kind, amount in self.asked.items()))

    def _asked_and_there(self) -> str:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        kinds = [kind for kind, amount in self.asked.items() if amount]
        asked = " and ".join(f"{self.asked[kind]:g} {kind}s" for kind in kinds)
        there = ", ".join(" and ".join(f"{node.get(kind, 0.0):g} {kind}s" for kind in kinds) for node in nodes)
        return f"{self.what} asks for {asked}, and the cluster's nodes have {there}, busy ones included"
