"""Strict YAML: whatever is wrong is said with the file, the dotted key and the remedy."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from pydantic import Field, model_validator

from swiftbolt.config import Strict, load_config, parse_config
from swiftbolt.errors import ConfigError


class Model(Strict):
    """A nested group."""

    hidden: int = Field(64, gt=0)
    dropout: float = 0.1


class Study(Strict):
    """A whole file."""

    name: str
    model: Model = Model()
    other: Model | None = None
    members: tuple[Model, ...] = ()
    by_name: dict[str, Model] = Field(default_factory=dict)
    start: date | None = None

    @model_validator(mode="after")
    def _no_seven(self) -> Study:
        if self.name == "seven":
            raise ValueError("seven is taken")
        return self


@pytest.fixture
def write(tmp_path):
    """Writes a YAML file and returns its path."""

    def write_text(text: str) -> Path:
        path = tmp_path / "study.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_text


def fault_of(path: Path, *overrides: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(path, Study, overrides)
    assert caught.value.file == str(path)
    return caught.value


def test_a_file_fills_its_model_and_the_defaults_fill_the_rest(write):
    study = load_config(write("name: a\nmodel: {hidden: 128}\nstart: 2008-01-02\n"), Study)
    assert study == Study(name="a", model=Model(hidden=128, dropout=0.1), start=date(2008, 1, 2))


def test_a_model_is_frozen(write):
    study = load_config(write("name: a"), Study)
    with pytest.raises(ValueError, match="frozen"):
        study.name = "b"


@pytest.mark.parametrize(
    ("text", "key", "meant"),
    [
        ("name: a\nmodle: {}", "modle", "model"),
        ("name: a\nmodel: {hiden: 3}", "model.hiden", "hidden"),
        ("name: a\nother: {hiden: 3}", "other.hiden", "hidden"),
        ("name: a\nmembers: [{}, {droput: 3}]", "members.1.droput", "dropout"),
        ("name: a\nby_name: {lstm: {hiden: 3}}", "by_name.lstm.hiden", "hidden"),
    ],
)
def test_an_unknown_key_is_named_with_its_file_and_path_and_the_nearest_known_one(write, text, key, meant):
    path = write(text)
    fault = fault_of(path)
    assert str(fault) == f"{path}: {key}: unknown key (did you mean {meant!r}?)"


def test_an_unknown_key_unlike_any_known_one_gets_no_suggestion(write):
    assert fault_of(write("name: a\nzzz: 1")).problem == "unknown key"


def test_a_misspelt_required_key_is_reported_as_misspelt_not_as_missing(write):
    assert fault_of(write("nmae: a")).problem == "unknown key (did you mean 'name'?)"


def test_a_missing_required_key_is_named(write):
    fault = fault_of(write("model: {}"))
    assert (fault.key, fault.problem) == ("name", "Field required")


@pytest.mark.parametrize("value", ["many", "0", "2.5", "[1]", ".inf"])
def test_a_value_of_the_wrong_type_or_range_names_its_key(write, value):
    assert fault_of(write(f"name: a\nmodel: {{hidden: {value}}}")).key == "model.hidden"


def test_infinity_is_no_number_of_a_configuration(write):
    assert fault_of(write("name: a\nmodel: {dropout: .inf}")).key == "model.dropout"


def test_a_rule_over_several_keys_speaks_in_its_own_words(write):
    fault = fault_of(write("name: seven"))
    assert (fault.key, fault.problem) == ("", "seven is taken")


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    assert fault_of(tmp_path / "none.yaml").problem == "no such file"


def test_a_directory_cannot_be_read(tmp_path):
    assert "cannot be read" in fault_of(tmp_path).problem


def test_bytes_that_are_not_text_cannot_be_read(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_bytes(b"\xff\xfe\x00name")
    assert "cannot be read" in fault_of(path).problem


@pytest.mark.parametrize("text", ["name: [1", "name: a\n\tmodel: 3", "name: a\nstart: 2020-02-30", "{a: 1}: 2"])
def test_broken_yaml_is_one_line_that_says_so(write, text):
    problem = fault_of(write(text)).problem
    assert problem.startswith("is not YAML (")
    assert "\n" not in problem


def test_a_key_that_stands_twice_is_an_error_because_one_of_the_two_would_be_lost(write):
    problem = fault_of(write("name: a\nmodel:\n  hidden: 1\n  dropout: 0.2\n  hidden: 2\n")).problem
    assert "'hidden' stands twice" in problem
    assert "line 5" in problem


def test_an_anchor_may_be_merged_and_overridden(write):
    study = load_config(write("name: a\nmodel: &m {hidden: 5}\nother: {<<: *m, dropout: 0.3}"), Study)
    assert study.other == Model(hidden=5, dropout=0.3)


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words", "3"])
def test_a_file_that_is_no_mapping_says_what_it_is(write, text):
    assert "must be a mapping" in fault_of(write(text)).problem


def test_an_empty_file_is_an_empty_mapping(write):
    assert load_config(write("# nothing yet\n"), Model) == Model()


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("name=b", Study(name="b", model=Model(hidden=5))),
        ("model.hidden=7", Study(name="a", model=Model(hidden=7))),
        ("model={hidden: 9}", Study(name="a", model=Model(hidden=9))),
        ("other.hidden=3", Study(name="a", model=Model(hidden=5), other=Model(hidden=3))),
        ("members=[{hidden: 2}]", Study(name="a", model=Model(hidden=5), members=(Model(hidden=2),))),
        ("name=x=y", Study(name="x=y", model=Model(hidden=5))),
    ],
)
def test_an_override_replaces_one_key_and_is_read_as_yaml(write, override, expected):
    assert load_config(write("name: a\nmodel: {hidden: 5}"), Study, [override]) == expected


def test_the_last_of_two_overrides_wins(write):
    assert load_config(write("name: a"), Study, ["name=b", "name=c"]).name == "c"


def test_an_override_fills_a_group_whose_keys_are_all_commented_out(write):
    assert load_config(write("name: a\nmodel:\n  # hidden: 5\n"), Study, ["model.hidden=6"]).model.hidden == 6


@pytest.mark.parametrize(
    ("override", "key", "problem"),
    [
        ("name", "name", "--set takes dotted.key=value"),
        ("=3", "=3", "--set takes dotted.key=value"),
        ("model.=3", "model.=3", "--set takes dotted.key=value"),
        ("model..hidden=3", "model..hidden=3", "--set takes dotted.key=value"),
        ("name.hidden=3", "name.hidden", "'name' is not a group of keys"),
        ("model.hiden=3", "model.hiden", "unknown key (did you mean 'hidden'?)"),
        ("model.hidden=[1", "model.hidden", "value '[1' is not YAML"),
        ("start=2020-02-30", "start", "value '2020-02-30' is not YAML"),
    ],
)
def test_a_bad_override_names_itself_and_its_file(write, override, key, problem):
    fault = fault_of(write("name: a\nmodel: {hidden: 5}"), override)
    assert (fault.key, fault.problem) == (key, problem)


def test_parsed_data_is_named_by_the_word_given():
    with pytest.raises(ConfigError, match=r"^defaults: hiden: unknown key"):
        parse_config({"hiden": 1}, Model, "defaults")
