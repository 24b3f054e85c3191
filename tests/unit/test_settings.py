"""What the environment says."""

from __future__ import annotations

from pathlib import Path

import pytest

from swiftbolt import settings
from swiftbolt.errors import ConfigError
from swiftbolt.settings import Settings

SECRET = "postgresql://owner:hunter2@db.example/swiftbolt"
RATE = "SWIFTBOLT_POLYGON_REQUESTS_PER_MINUTE"
# Under which names a vendor's key may be set, and where it is then found.
KEYS = [
    ("MASSIVE_API_KEY", "polygon_key"),
    ("POLYGON_API_KEY", "polygon_key"),
    ("APCA_API_KEY_ID", "alpaca_key"),
    ("ALPACA_API_KEY", "alpaca_key"),
    ("APCA_API_SECRET_KEY", "alpaca_secret"),
    ("ALPACA_SECRET_KEY", "alpaca_secret"),
]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch, tmp_path):
    for name in ("SWIFTBOLT_HOME", "DATABASE_URL", "XDG_DATA_HOME", RATE, *(name for name, _ in KEYS)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def test_a_database_url_is_masked_wherever_settings_are_shown(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", SECRET)
    found = Settings()
    for shown in (repr(found), str(found), found.model_dump_json(), repr(found.database_url)):
        assert "hunter2" not in shown
    assert found.database_url.get_secret_value() == SECRET


@pytest.mark.parametrize("value", ["", "   "])
def test_an_empty_database_url_is_unset(monkeypatch, value):
    monkeypatch.setenv("DATABASE_URL", value)
    assert Settings().database_url is None


def test_a_relative_home_becomes_absolute(monkeypatch, tmp_path):
    monkeypatch.setenv("SWIFTBOLT_HOME", "here")
    assert Settings().home == tmp_path / "here"


def test_a_tilde_in_home_is_the_users_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("SWIFTBOLT_HOME", "~/data")
    assert Settings().home == tmp_path / "data"


def test_an_empty_home_is_unset_and_never_the_working_directory(monkeypatch):
    monkeypatch.setenv("SWIFTBOLT_HOME", "")
    assert Settings().home == settings.default_home()


@pytest.mark.parametrize(
    ("platform", "expected"),
    [("linux", ".local/share/swiftbolt"), ("darwin", "Library/Application Support/swiftbolt")],
)
def test_home_defaults_to_the_users_data_directory(monkeypatch, tmp_path, platform, expected):
    monkeypatch.setattr(settings.sys, "platform", platform)
    assert Settings().home == tmp_path / expected


def test_xdg_data_home_is_honoured_when_absolute_and_ignored_when_relative(monkeypatch, tmp_path):
    monkeypatch.setattr(settings.sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", "/srv/data")
    assert Settings().home == Path("/srv/data/swiftbolt")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert Settings().home == tmp_path / ".local/share/swiftbolt"


def test_the_variable_called_home_is_not_ours(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    assert Settings().home != tmp_path / "user"


def test_values_may_be_given_by_name(tmp_path):
    found = Settings(home=tmp_path / "x", database_url=SECRET)
    assert found.home == tmp_path / "x"
    assert found.database_url.get_secret_value() == SECRET


def test_every_path_lies_under_home(monkeypatch):
    monkeypatch.setenv("SWIFTBOLT_HOME", "/srv/swiftbolt")
    found = Settings()
    assert {found.artifacts.parent, found.postgres_data.parent, found.run_directory.parent} == {Path("/srv/swiftbolt")}
    assert len({found.artifacts, found.postgres_data, found.run_directory}) == 3


def test_the_environment_is_read_at_construction_not_at_import(monkeypatch):
    monkeypatch.setenv("SWIFTBOLT_HOME", "/one")
    first = Settings()
    monkeypatch.setenv("SWIFTBOLT_HOME", "/two")
    assert (first.home, Settings().home) == (Path("/one"), Path("/two"))


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Settings().home = Path("/elsewhere")


@pytest.mark.parametrize(("variable", "field"), KEYS)
def test_a_vendors_key_is_found_under_each_of_its_names_and_masked(monkeypatch, variable, field):
    monkeypatch.setenv(variable, "hunter2")
    found = Settings()
    assert getattr(found, field).get_secret_value() == "hunter2"
    for shown in (repr(found), str(found), found.model_dump_json()):
        assert "hunter2" not in shown


@pytest.mark.parametrize(("variable", "field"), KEYS)
@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_key_is_unset(monkeypatch, variable, field, value):
    monkeypatch.setenv(variable, value)
    assert getattr(Settings(), field) is None


@pytest.mark.parametrize(("first", "second"), [(KEYS[0], KEYS[1]), (KEYS[2], KEYS[3]), (KEYS[4], KEYS[5])])
def test_of_a_vendors_two_names_the_first_counts_unless_it_is_empty(monkeypatch, first, second):
    monkeypatch.setenv(first[0], "one")
    monkeypatch.setenv(second[0], "two")
    assert getattr(Settings(), first[1]).get_secret_value() == "one"
    monkeypatch.setenv(first[0], "")
    assert getattr(Settings(), first[1]).get_secret_value() == "two"


def test_the_rate_of_requests_is_a_number(monkeypatch):
    assert Settings().polygon_requests_per_minute is None
    monkeypatch.setenv(RATE, "0.5")
    assert Settings().polygon_requests_per_minute == 0.5


@pytest.mark.parametrize("value", ["0", "-5", "nan", "inf", "many"])
def test_a_rate_of_requests_that_is_none_is_refused_by_its_name_and_without_a_secret(monkeypatch, value):
    monkeypatch.setenv("DATABASE_URL", SECRET)
    monkeypatch.setenv(RATE, value)
    with pytest.raises(ConfigError, match=f"environment: {RATE}: Input should be") as caught:
        Settings()
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
