"""Outcomes in a run's storage: what lies there is done, whoever did it and whatever became of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from cluster.storage import RunStorage
from swiftbolt.evaluation.outcomes import Index, pack_outcomes, read_index, unpack_outcomes
from swiftbolt.evaluation.units import Outcome, Unit

_FOLDER = "units"


def keep_outcomes(storage: RunStorage, outcomes: Mapping[str, Outcome]) -> str:
    """Keep the outcomes of a shard, given by id; the index comes last, and says that the rest is there.

    Returns:
        The name of the pack.

    Raises:
        EnvironmentFault: the storage cannot be written.
    """
    ids = "\n".join(outcomes)
    pack = f"{_FOLDER}/{hashlib.sha256(ids.encode()).hexdigest()[:20]}"
    index, content = pack_outcomes(outcomes)
    storage.write(f"{pack}.zip", content)
    storage.write(f"{pack}.json", index)
    return pack


class KeptOutcomes:
    """Which of some units have been kept, and what they left.

    Attributes:
        missing: units that were not kept, by id.
    """

    def __init__(self, storage: RunStorage, wanted: Mapping[str, Unit]) -> None:
        self._storage, self._wanted = storage, wanted
        self._packs: dict[str, Index] = {}
        self.missing = dict(wanted)

    def look(self) -> dict[str, Outcome]:
        """What was kept since the last look, by id; without forecasts and files, which lie still."""
        names = self._storage.names(_FOLDER)
        return self.take(name.removesuffix(".json") for name in names if name.endswith(".json"))

    def take(self, packs: Iterable[str]) -> dict[str, Outcome]:
        """The same of the packs that are named, where others need not be looked for."""
        came: dict[str, Outcome] = {}
        for pack in packs:
            if pack in self._packs:
                continue
            index = read_index(self._storage.read(f"{pack}.json"))
            # A unit may have been done twice, in shards that were cut differently: the first one counts.
            self._packs[pack] = {key: entry for key, entry in index.items() if key in self.missing}
            for key, entry in self._packs[pack].items():
                told = {about: entry[about] for about in ("failure", "cost", "attempts")}
                came[key] = Outcome(unit=self.missing.pop(key), forecasts=None, **told)
        return came

    def read(self) -> dict[str, Outcome]:
        """Everything kept so far, by id."""
        outcomes: dict[str, Outcome] = {}
        for pack, index in self._packs.items():
            if index:
                units = {key: self._wanted[key] for key in index}
                outcomes |= unpack_outcomes(index, self._storage.read(f"{pack}.zip"), units)
        return outcomes
