"""A lease on what only one driver may do at a time, renewed for as long as the driver lives.

One that dies on this machine is known to be dead at once; of one elsewhere only its silence tells.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from types import TracebackType
from typing import Self

import psutil

from cluster.run_records import Line
from swiftbolt.errors import EnvironmentFault, LeaseLost, StoreError
from swiftbolt.store import LeaseRow, Store
from swiftbolt.store.rows import LEASE_SILENT_S

RENEW_S = 10.0
_LOOK_S = 1.0
_CLOCK_STEP_S = 5.0  # by which a clock that is set moves when a process is said to have begun


def holder_of(process: int) -> str:
    """This machine, the process and when it began, so that a process number used again is another holder."""
    return f"{_here()}/{process}/{psutil.Process(process).create_time():.2f}"


def _here() -> str:
    """This machine; containers that share its name number their processes apart."""
    try:
        return f"{socket.gethostname()}#{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:  # not Linux
        return socket.gethostname()


class Lease:
    """Held within a ``with`` block. Renewed by a thread of its own, over a connection of its own.

    Args:
        name: of what is held, such as ``retrain:<universe>``.
        what: of it in words, for messages.
    """

    def __init__(
        self,
        url: str,
        name: str,
        *,
        what: str,
        write: Line,
        renew_s: float = RENEW_S,
        silent_s: float = LEASE_SILENT_S,
    ) -> None:
        self._store = Store.connect(url)
        self._name, self._what, self._write = name, what, write
        self._renew_s, self._silent_s = renew_s, silent_s
        self._holder = holder_of(os.getpid())
        self._run: str | None = None
        self._is_lost = False
        self._asked = time.monotonic()
        self._ended = threading.Event()
        self._renewing = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Self:
        """Take it.

        Raises:
            EnvironmentFault: another driver holds it, and lives.
        """
        try:
            self._take()
        except BaseException:  # also an interrupt: no connection is left open
            self._store.close()
            raise
        self._renewing.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back."""
        self._ended.set()
        self._renewing.join()
        try:
            self._store.release_lease(self._name, self._holder)
        except StoreError as exc:  # it falls silent by itself
            self._write(f"{self._what} was not given back, and is free in {self._silent_s:.0f} s: {exc}")
        self._store.close()

    def name_run(self, run: str) -> None:
        """Say which run the driver works on.

        Raises:
            LeaseLost: it is another's by now.
        """
        self._run = run
        if self._store.take_lease(self._name, run, self._holder, silent_s=self._silent_s) is not None:
            self._is_lost = True
        self.require()

    def require(self) -> None:
        """Do nothing while it is held.

        Raises:
            LeaseLost: another driver has taken it.
        """
        if time.monotonic() - self._asked > 2 * self._renew_s:
            self._ask()  # this process was stopped for a while, and so was the thread that renews
        if self._is_lost:
            raise LeaseLost(
                f"{self._what} was taken over by another driver, as this one was not heard of for"
                f" {self._silent_s:.0f} s: see swiftbolt runs"
            )

    def _take(self) -> None:
        first = held = self._try(None)
        told = False
        while held is not None:
            assert first is not None
            if held.holder != first.holder or held.renewed > first.renewed:
                raise EnvironmentFault(self._refusal(held))
            where, process, began = held.holder.split("/")
            if where == _here():
                if is_alive(int(process), float(began)):
                    raise EnvironmentFault(self._refusal(held))
                held = self._try(held.holder)
                continue
            if not told:
                self._write(
                    f"{_run_of(held)} on {held.host} held {self._what} {held.silent_s:.0f} s ago: waiting up to"
                    f" {max(0.0, self._silent_s - held.silent_s):.0f} s to see whether it lives"
                )
                told = True
            time.sleep(min(_LOOK_S, self._renew_s))
            held = self._try(None)

    def _try(self, instead_of: str | None) -> LeaseRow | None:
        return self._store.take_lease(
            self._name, self._run, self._holder, silent_s=self._silent_s, instead_of=instead_of
        )

    def _refusal(self, held: LeaseRow) -> str:
        return (
            f"{_run_of(held)} holds {self._what}, since {held.taken:%Y-%m-%d %H:%M:%S %Z}, as process {held.process} on"
            f" {held.host}: wait for it (swiftbolt runs), or end it and run the same command again"
        )

    def _renew(self) -> None:
        while not self._is_lost and not self._ended.wait(self._renew_s):
            self._ask()

    def _ask(self) -> None:
        asked = time.monotonic()
        try:
            if not self._store.renew_lease(self._name, self._holder):
                self._is_lost = True
        except StoreError:
            pass  # nobody else can take it either
        self._asked = asked


def is_alive(process: int, began: float) -> bool:
    """Whether a process of this machine still runs, and is no other that was given the same number."""
    try:
        found = psutil.Process(process)
        is_same: bool = abs(found.create_time() - began) < _CLOCK_STEP_S
        return is_same and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _run_of(held: LeaseRow) -> str:
    return "a run that is only starting" if held.run is None else f"run {held.run}"
