"""Which run a retrain is: one that ended before it was done goes on, otherwise a new one begins.

A run is known again by what its release depends on: recipe, universe, code and number of Train workers. How much of the
cluster it may use, and when it may be promoted, can change on the way.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from cluster.history import load_history
from cluster.kept_history import keep_history, kept_to, read_history
from cluster.run_records import Line
from cluster.storage import RunStorage
from swiftbolt.artifact import code_version
from swiftbolt.evaluation.recipe import Recipe
from swiftbolt.feature_cache import CohortHistory
from swiftbolt.sessions import all_sessions
from swiftbolt.store import Store
from swiftbolt.universe import Universe

KIND = "retrain"


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """A run and what it works on.

    Attributes:
        history: as the store held it when the run began.
        skipped: symbols of the universe that are not forecast, each with its reason.
        starts: how often a driver has taken it up, this one included.
    """

    run: str
    identity: str
    storage: RunStorage
    history: CohortHistory
    skipped: dict[str, str]
    starts: int


def identity_of(recipe: Recipe, universe: Universe, train_workers: object) -> str:
    """SHA-256 over what a release depends on, but for the data."""
    described = [recipe.to_json(), universe.model_dump(mode="json"), train_workers, code_version()]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()


def universe_key(universe: Universe) -> str:
    """Names the symbols that only one run may retrain at a time."""
    return hashlib.sha256("\n".join(sorted(universe.symbols)).encode()).hexdigest()[:16]


def take_up(
    store: Store,
    storage_of: Callable[[str], RunStorage],
    recipe: Recipe,
    universe: Universe,
    described: Mapping[str, Any],
    identity: str,
    *,
    fresh: bool,
    resume_within_sessions: int,
    now: datetime,
    named: Callable[[str], None],
    write: Line,
) -> Work:
    """Go on with the run of ``identity`` that ended before it was done, or begin one.

    Args:
        described: what a new run is asked to do, for its record.
        fresh: begin a new one in any case.
        resume_within_sessions: how many sessions newer than a run's own the store's may be.
        named: told the run's name as soon as there is one.

    Raises:
        DataError: no symbol of the universe can be trained.
        EnvironmentFault: the storage cannot be read or written.
    """
    found = store.unfinished_run(KIND, identity)
    if found is not None:
        storage = storage_of(found.run)
        why_not = "--fresh" if fresh else _why_too_old(storage, store, universe, resume_within_sessions)
        if why_not is None:
            named(found.run)
            store.resume_run(found.run)
            return _go_on(found.run, identity, storage, store, recipe, universe, write)
        write(f"run {found.run} is given up: {why_not}")
        storage.remove()
        store.finish_run(found.run, "failed", found.seconds or 0.0, {"run": f"given up: {why_not}"})
    history, skipped = load_history(store, universe, recipe, write)
    run = store.start_run(KIND, described, now=now, identity=identity)
    named(run)
    storage = storage_of(run)
    keep_history(storage, history, skipped)
    return Work(
        run=run, identity=identity, storage=storage, history=history, skipped=skipped, starts=_count_start(storage)
    )


def forget_others(store: Store, storage_of: Callable[[str], RunStorage], universe: Universe, run: str) -> None:
    """Give up the runs of the same universe that ended before they were done: ``run`` has done their work by now.

    Raises:
        EnvironmentFault: their storage cannot be removed.
    """
    for row in store.runs():
        if row.kind != KIND or row.run == run or row.state not in ("lost", "failed"):
            continue
        asked = store.run_config(row.run).get("universe", {})
        if set(asked.get("symbols", ())) == set(universe.symbols):
            storage_of(row.run).remove()
            if row.state == "lost":
                store.finish_run(row.run, "failed", row.seconds or 0.0, {"run": f"given up: {run} was done since"})


def _go_on(
    run: str, identity: str, storage: RunStorage, store: Store, recipe: Recipe, universe: Universe, write: Line
) -> Work:
    if kept_to(storage) is not None:
        history, skipped = read_history(storage)
        write(f"run {run} goes on with the bars it began with, to {history.bars.last_session}")
    else:  # it died before anything was done
        history, skipped = load_history(store, universe, recipe, write)
        keep_history(storage, history, skipped)
    starts = _count_start(storage)
    return Work(run=run, identity=identity, storage=storage, history=history, skipped=skipped, starts=starts)


def _why_too_old(storage: RunStorage, store: Store, universe: Universe, within: int) -> str | None:
    """Why a run is not worth going on with, or None."""
    began_with = kept_to(storage)
    held = [last for symbol, last in store.last_sessions().items() if symbol in universe.symbols]
    if began_with is None or not held:
        return None
    newest = max(held) if universe.end is None else min(max(held), universe.end)
    days = all_sessions()
    newer = int(np.sum((days > np.datetime64(began_with)) & (days <= np.datetime64(newest))))
    if newer <= within:
        return None
    return f"its bars end on {began_with}, and the store has {newer} sessions more, to {newest}"


def _count_start(storage: RunStorage) -> int:
    starts = len(storage.names("starts")) + 1
    storage.write(f"starts/{starts:04d}", b"")
    return starts
