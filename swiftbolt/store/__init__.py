"""The store: bars, runs, releases and forecasts in PostgreSQL. Knows the nouns; knows nothing of models or vendors."""

from __future__ import annotations

from swiftbolt.settings import Settings
from swiftbolt.store import embedded
from swiftbolt.store.postgres import Store
from swiftbolt.store.rows import (
    ArtifactRow,
    LeaseRow,
    ReleaseRow,
    RunRow,
    SymbolRow,
    TrialRow,
    UnitRow,
    UnitState,
    UnitTotal,
    UpsertCount,
)

__all__ = [
    "Store",
    "resolve_url",
    "ArtifactRow",
    "LeaseRow",
    "ReleaseRow",
    "RunRow",
    "SymbolRow",
    "TrialRow",
    "UnitRow",
    "UnitState",
    "UnitTotal",
    "UpsertCount",
]


def resolve_url(settings: Settings) -> str:
    """``DATABASE_URL`` where it is set; else the URL of the embedded server, which is started when it is not running.

    Raises:
        EnvironmentFault: the embedded server does not start.
    """
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    return embedded.start(settings.postgres_data).url
