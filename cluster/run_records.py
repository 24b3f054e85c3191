"""What a run tells the store of itself: how far it has come and how it ended. No run is lost for want of a record."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from swiftbolt.errors import StoreError, StoreUnavailable
from swiftbolt.store import Store

Line = Callable[[str], None]
"""Where a line for people goes."""


def progress_recorder(store: Store, run: str, write: Line) -> Callable[[int, int, int], None]:
    """Tells the store how far a run has come. A store that is away loses a number, not hours of training."""

    def record(done: int, failed: int, total: int) -> None:
        try:
            store.progress_run(run, done=done, failed=failed, total=total)
        except StoreUnavailable as exc:
            write(f"progress was not recorded, the run goes on: {exc}")

    return record


def record_failure(store: Store, run: str, seconds: float, failures: Mapping[str, str], write: Line) -> None:
    """Record that a run failed; where that cannot be, say so instead of hiding what it failed of."""
    try:
        store.finish_run(run, "failed", seconds, failures)
    except StoreError as exc:
        write(f"run {run} failed, and that was not recorded: {exc}")


def last_line(exc: BaseException) -> str:
    """What an error of Ray's comes to: above its last line stand the tracebacks of other processes."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[-1] if lines else type(exc).__name__


def reason_of(exc: BaseException) -> str:
    """Why a run ended, in words."""
    if isinstance(exc, (KeyboardInterrupt, SystemExit)):  # Ray makes a SystemExit of the signal a stopped job gets
        return "stopped before it was done"
    return str(exc) or type(exc).__name__
