"""Exit codes of every program of ours, given once. The first class that fits decides."""

from __future__ import annotations

from swiftbolt.errors import ConfigError, DataError, EnvironmentFault, StoreUnavailable, SwiftBoltError

EXIT_CODES: tuple[tuple[type[SwiftBoltError], int], ...] = (
    (ConfigError, 2),
    (DataError, 2),
    (StoreUnavailable, 3),
    (EnvironmentFault, 4),
)
OTHER_ERROR = 1
INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it


def exit_code(error: SwiftBoltError) -> int:
    """What a program that ends with ``error`` tells its caller."""
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), OTHER_ERROR)


def one_line(error: object) -> str:
    """An error, or its message, as a person reads it: on a single line."""
    return f"error: {' '.join(str(error).split())}"
