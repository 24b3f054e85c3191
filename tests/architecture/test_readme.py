"""The README prints the tree: every module is in it, and nothing that is not there."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text(encoding="utf-8")


def listed() -> list[str]:
    tree = README.split("## The tree", 1)[1].split("```")[1]
    return [line.split()[0] for line in tree.strip().splitlines()]


def test_every_module_has_a_line_in_the_readmes_tree() -> None:
    modules = {
        str(path.relative_to(PROJECT).parent) + "/" if path.name == "__init__.py" else str(path.relative_to(PROJECT))
        for package in ("swiftbolt", "cluster", "serve")
        for path in (PROJECT / package).rglob("*.py")
        if "sample_data" not in path.parts
    }
    assert modules - set(listed()) == set()


def test_every_line_of_the_readmes_tree_is_there_and_says_something() -> None:
    assert [path for path in listed() if not (PROJECT / path).exists()] == []
    assert len(listed()) == len(set(listed()))


def test_every_command_of_the_readme_exists() -> None:
    from swiftbolt import cli

    known = {verb.__name__ for verb in (*cli.VERBS, *cli.PASSING_ON)} | set(cli.GROUPS)
    assert set(re.findall(r"`swiftbolt ([a-z]+)", README)) <= known


def test_the_readme_opens_with_the_two_commands() -> None:
    opening = README.split("```")[1]
    assert [line.split("#")[0].strip() for line in opening.strip().splitlines()] == ["make demo", "make test"]


def test_the_page_of_features_is_the_catalogue() -> None:
    from swiftbolt.features import describe
    from swiftbolt.verbs.features import catalogue_page

    page = (PROJECT / "swiftbolt" / "features" / "README.md").read_text(encoding="utf-8")
    assert page == catalogue_page(describe()) + "\n"
