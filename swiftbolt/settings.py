"""What the environment says: where data lies, which database, which keys. Secrets are masked in ``repr``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from swiftbolt.errors import ConfigError


def default_home() -> Path:
    """The user's data directory, absolute."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "swiftbolt"
    base = Path(os.environ.get("XDG_DATA_HOME", ""))
    # The XDG specification: a relative path is to be ignored.
    return (base if base.is_absolute() else Path.home() / ".local" / "share") / "swiftbolt"


class Settings(BaseSettings):
    """Read from the environment each time it is constructed; nothing is read at import.

    Keys may be set under either of a vendor's names; where both are set, the first one listed counts.

    Raises:
        ConfigError: a variable holds what it cannot.
    """

    model_config = SettingsConfigDict(
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        # By name means from the environment too: without the prefix, HOME would be read as `home`.
        env_prefix="SWIFTBOLT_",
        env_ignore_empty=True,
    )

    home: Path = Field(default_factory=default_home, validation_alias="SWIFTBOLT_HOME")
    database_url: SecretStr | None = Field(default=None, validation_alias="DATABASE_URL")
    polygon_key: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("MASSIVE_API_KEY", "POLYGON_API_KEY")
    )
    polygon_requests_per_minute: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, validation_alias="SWIFTBOLT_POLYGON_REQUESTS_PER_MINUTE"
    )
    alpaca_key: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("APCA_API_KEY_ID", "ALPACA_API_KEY")
    )
    alpaca_secret: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("APCA_API_SECRET_KEY", "ALPACA_SECRET_KEY")
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as exc:
            first = exc.errors(include_url=False, include_input=False)[0]
            # Not its cause: pydantic's own error shows the values, and some are secret.
            raise ConfigError("environment", ".".join(map(str, first["loc"])), first["msg"]) from None

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("database_url", "polygon_key", "alpaca_key", "alpaca_secret")
    @classmethod
    def _empty_is_unset(cls, value: SecretStr | None) -> SecretStr | None:
        return value if value is not None and value.get_secret_value().strip() else None

    @property
    def artifacts(self) -> Path:
        """Folder that holds one directory per release."""
        return self.home / "artifacts"

    @property
    def postgres_data(self) -> Path:
        """Data directory of the embedded PostgreSQL."""
        return self.home / "postgres"

    @property
    def run_directory(self) -> Path:
        """Process ids, tokens and logs of what the command line started."""
        return self.home / "run"
