"""Integration tests share one PostgreSQL server."""

from support.database import _migrated, database_url, empty_url, migrated_url, store

__all__ = ["_migrated", "database_url", "empty_url", "migrated_url", "store"]
