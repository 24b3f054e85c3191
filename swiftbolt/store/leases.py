"""Leases: what only one program may do at a time, held by whoever renews it."""

from __future__ import annotations

from swiftbolt.store.connection import Operations
from swiftbolt.store.rows import LeaseRow


class LeaseOperations(Operations):
    """The table ``leases``. All times are the database's, so that clocks of machines need not agree."""

    def take_lease(
        self, name: str, run: str | None, holder: str, *, silent_s: float, instead_of: str | None = None
    ) -> LeaseRow | None:
        """Take a lease that is free, ``holder``'s already, ``instead_of``'s, or not renewed for ``silent_s`` seconds.

        Returns:
            None where it is taken; otherwise who holds it.
        """
        values = {"name": name, "run": run, "holder": holder, "silent_s": silent_s, "instead_of": instead_of}
        while self._database.execute("take_lease", values) == 0:
            held = self.lease(name)
            if held is not None:
                return held
        return None

    def renew_lease(self, name: str, holder: str) -> bool:
        """Say that the holder lives; False where the lease is another's by now."""
        return self._database.execute("renew_lease", {"name": name, "holder": holder}) == 1

    def release_lease(self, name: str, holder: str) -> None:
        """Give it back; nothing happens where it is another's by now."""
        self._database.execute("release_lease", {"name": name, "holder": holder})

    def lease(self, name: str) -> LeaseRow | None:
        """Who holds it."""
        return next(iter(self._database.rows(LeaseRow, "leases", {"name": name, "run": None})), None)

    def lease_of(self, run: str) -> LeaseRow | None:
        """The lease that a run works under."""
        return next(iter(self._database.rows(LeaseRow, "leases", {"name": None, "run": run})), None)
