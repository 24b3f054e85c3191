"""Every error SwiftBolt raises on purpose. Knows nothing else of the package.

SwiftBoltError
├── ConfigError               the file and the dotted key, and how to mend it
├── DataError
│   ├── SchemaError           a file or frame lacks a column, or a column holds the wrong type
│   ├── InsufficientHistory   a symbol has fewer sessions than asked for
│   ├── MissingSessions       a calendar range holds no usable session
│   └── QuarantinedRows       rows failed the checks and --strict was asked for
├── ProviderError
│   ├── RateLimited           the vendor says when to come back
│   ├── ProviderRefused       the vendor says no (key, plan)
│   │   └── UnknownSymbol     the vendor does not know the symbol
│   ├── ProviderUnavailable   no answer, a fault of the vendor's, or one cut short, after every retry
│   └── NotOffered            the source does not have that kind of data
├── StoreError                wraps psycopg.Error, cause kept
│   ├── StoreUnavailable      the database cannot be reached
│   └── NotFound              no such release, run or symbol
├── ModelError
│   ├── DidNotConverge        an optimiser stopped short
│   └── ArtifactMismatch      an artifact was made for other features, or its bytes changed
├── EnvironmentFault          the machine is not as needed: a port taken, another demo running
│   └── LeaseLost             another program has taken over what this one was doing
└── ServingError
    ├── NoRelease             nothing has been promoted yet
    ├── NoForecast            the release has none for that symbol or model
    └── NoMemberAnswered      every model failed or was late

Every class keeps its fields in ``args``, so that an error survives pickling between Ray workers.
Exit codes and HTTP statuses are not here: the command line and the ingress give them, once each.
"""

from __future__ import annotations


class SwiftBoltError(Exception):
    """Something went wrong that a person can understand and mend."""


class ConfigError(SwiftBoltError):
    """A configuration file, or one key of it, cannot be used."""

    def __init__(self, file: str, key: str, problem: str) -> None:
        super().__init__(file, key, problem)
        self.file, self.key, self.problem = file, key, problem

    def __str__(self) -> str:
        where = f"{self.file}: {self.key}" if self.key else self.file
        return f"{where}: {self.problem}"


class DataError(SwiftBoltError):
    """Market data is not what it claims to be."""


class SchemaError(DataError):
    """A file or frame lacks a column, or a column holds the wrong type."""


class InsufficientHistory(DataError):
    """A symbol has fewer sessions than are needed."""

    def __init__(self, symbol: str, needed: int, available: int) -> None:
        super().__init__(symbol, needed, available)
        self.symbol, self.needed, self.available = symbol, needed, available

    def __str__(self) -> str:
        return f"{self.symbol}: needs {self.needed} sessions, has {self.available}"


class MissingSessions(DataError):
    """A range of the calendar holds no usable session."""


class QuarantinedRows(DataError):
    """Rows failed the checks, and the caller asked to stop rather than to set them aside."""


class ProviderError(SwiftBoltError):
    """A market-data vendor did not give what was asked for."""


class RateLimited(ProviderError):
    """The vendor asks to wait."""

    def __init__(self, provider: str, retry_after_s: float) -> None:
        super().__init__(provider, retry_after_s)
        self.provider, self.retry_after_s = provider, retry_after_s

    def __str__(self) -> str:
        return f"{self.provider}: rate limit reached, retry in {self.retry_after_s:.0f} s"


class ProviderRefused(ProviderError):
    """The vendor refuses: wrong key, plan without this data, unknown symbol."""


class UnknownSymbol(ProviderRefused):
    """The vendor does not know the symbol."""


class ProviderUnavailable(ProviderError):
    """The vendor did not answer, failed, or broke off, after every retry."""


class NotOffered(ProviderError):
    """The source does not have that kind of data."""


class StoreError(SwiftBoltError):
    """The database refused or failed; the driver's error is the cause."""


class StoreUnavailable(StoreError):
    """The database cannot be reached."""


class NotFound(StoreError):
    """The store holds no such release, run or symbol."""


class ModelError(SwiftBoltError):
    """A model cannot be fitted, saved, loaded or asked."""


class DidNotConverge(ModelError):
    """An optimiser stopped short of a solution."""

    def __init__(self, model: str, symbol: str, reason: str) -> None:
        super().__init__(model, symbol, reason)
        self.model, self.symbol, self.reason = model, symbol, reason

    def __str__(self) -> str:
        return f"{self.model} on {self.symbol} did not converge: {self.reason}"


class ArtifactMismatch(ModelError):
    """An artifact was made for another feature spec, or its bytes are not those that were saved."""


class EnvironmentFault(SwiftBoltError):
    """The machine is not as needed; the message names the remedy."""


class LeaseLost(EnvironmentFault):
    """Another program has taken over what this one was doing, and this one must not go on."""


class ServingError(SwiftBoltError):
    """A forecast cannot be served."""


class NoRelease(ServingError):
    """Nothing has been promoted yet."""


class NoForecast(ServingError):
    """The promoted release holds no forecast for that symbol or model."""


class NoMemberAnswered(ServingError):
    """Every member of the ensemble failed or was late."""
