"""The error tree: what it says, and that it survives a trip between processes."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import typing

import pytest

from swiftbolt import errors
from swiftbolt.errors import ConfigError, DidNotConverge, InsufficientHistory, RateLimited, SwiftBoltError

SAMPLES = {str: "a sentence", int: 7, float: 2.5}


def tree(cls: type[SwiftBoltError] = SwiftBoltError) -> list[type[SwiftBoltError]]:
    """Every class of the tree that errors.py defines; other tests may have made more."""
    below = [found for child in cls.__subclasses__() for found in tree(child)]
    return [cls, *below] if cls.__module__ == errors.__name__ else below


ERRORS = tree()
WITH_FIELDS = [cls for cls in ERRORS if "__init__" in vars(cls)]


def name_of(value: object) -> str:
    return value.__name__ if inspect.isclass(value) else str(value)


def example(cls: type[SwiftBoltError]) -> SwiftBoltError:
    """An instance with a value of the right type for each of its fields."""
    if cls not in WITH_FIELDS:
        return cls("a sentence")
    hints = typing.get_type_hints(cls.__init__)
    names = list(inspect.signature(cls.__init__).parameters)[1:]
    return cls(*(SAMPLES[hints[name]] for name in names))


@pytest.mark.parametrize("cls", ERRORS, ids=name_of)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_survives_pickling_with_its_fields_and_its_message(cls, protocol):
    error = example(cls)
    loaded = pickle.loads(pickle.dumps(error, protocol))
    assert type(loaded) is cls
    assert loaded.args == error.args
    assert vars(loaded) == vars(error)
    assert str(loaded) == str(error)


@pytest.mark.parametrize("cls", ERRORS, ids=name_of)
def test_every_error_can_be_copied_and_has_a_sentence_to_say(cls):
    error = example(cls)
    assert str(copy.copy(error)) == str(error) != ""
    assert cls.__doc__


@pytest.mark.parametrize("cls", WITH_FIELDS, ids=name_of)
def test_fields_given_by_keyword_reach_args_too(cls):
    hints = typing.get_type_hints(cls.__init__)
    fields = {name: SAMPLES[hints[name]] for name in list(inspect.signature(cls.__init__).parameters)[1:]}
    error = cls(**fields)
    assert error.args == tuple(fields.values())
    assert vars(error) == fields


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes():
    drawn, path = {}, []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^([│ ├└─]*)(\w+)", line)
        if found is None or found[2] not in vars(errors):
            continue
        depth = len(found[1]) // 4
        path[depth:] = [found[2]]
        drawn[found[2]] = path[depth - 1] if depth else "Exception"
    assert drawn == {cls.__name__: cls.__base__.__name__ for cls in ERRORS}


def test_the_tree_holds_every_class_of_the_module():
    classes = {value for value in vars(errors).values() if inspect.isclass(value)}
    assert classes == set(ERRORS)


def test_messages_say_who_what_was_needed_and_what_there_was():
    assert str(InsufficientHistory("FB", 504, 196)) == "FB: needs 504 sessions, has 196"
    assert str(RateLimited("polygon", 12.4)) == "polygon: rate limit reached, retry in 12 s"
    assert str(DidNotConverge("arima", "IBM", "61 iterations")) == "arima on IBM did not converge: 61 iterations"
    assert str(ConfigError("a.yaml", "model.x", "unknown key")) == "a.yaml: model.x: unknown key"
    assert str(ConfigError("a.yaml", "", "no such file")) == "a.yaml: no such file"
