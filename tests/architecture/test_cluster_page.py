"""Every command of cluster/README.md can be typed: its program, options, modules and files exist."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer.main
from ray.scripts.scripts import cli as ray_cli

from swiftbolt import cli

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "cluster" / "README.md"
TEXT = PAGE.read_text(encoding="utf-8")
# Programs of the operator's own machine; only the files they are given are looked at.
FOREIGN = {"aws", "chmod", "cp", "docker", "grep", "helm", "kubectl", "mkdir", "openssl", "$EDITOR", "export"}
# Files that the page itself has the operator make.
MADE = {"build/aws", "build/aws/constraints.txt"}


def commands() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [words for words in lines if words]


def options(words: list[str]) -> set[str]:
    return {word.split("=")[0] for word in words if word.startswith("--") and word != "--"}


def check(words: list[str]) -> None:
    """Raises AssertionError where a command names what is not there."""
    program, *rest = words
    for word in rest:
        path = word.split("=")[-1]
        if path.startswith(("configs/", "cluster/", "serve/", "build/")):
            assert (PROJECT / path).exists() or path in MADE, f"no file {path}"
    match Path(program).name:
        case "swiftbolt":
            check_click(typer.main.get_command(cli.app), rest)
        case "ray":
            ours = rest.index("--") if "--" in rest else len(rest)
            check_click(ray_cli, rest[:ours])
            if rest[ours:]:
                check(rest[ours + 1 :])
        case "python":
            assert rest[0] == "-m", "modules are run with -m"
            check_module(rest[1], rest[2:])
        case "make":
            targets = set(re.findall(r"^(\w[\w-]*):", (PROJECT / "Makefile").read_text(), flags=re.MULTILINE))
            assert set(rest) <= targets, f"no target {set(rest) - targets}"
        case name:
            assert name in FOREIGN, f"unknown program {name}"


def check_click(command: Any, words: list[str]) -> None:
    while hasattr(command, "commands"):
        if command.invoke_without_command and (not words or words[0].startswith("-")):
            break
        name, *words = words
        assert name in command.commands, f"no verb {name}"
        command = command.commands[name]
    known = {option for parameter in command.params for option in parameter.opts}
    assert options(words) <= known, f"no option {options(words) - known}"


def check_module(module: str, words: list[str]) -> None:
    if module == "pip":
        return
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), pytest.raises(SystemExit):
        import_module(module).main(["--help"])
    assert options(words) <= set(re.findall(r"--[a-z-]+", shown.getvalue())), f"{module} has no {options(words)}"


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_of_the_page_exists(words: list[str]) -> None:
    check(words)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("swiftbolt promot", "no verb promot"),
        ("swiftbolt retrain --config configs/retrain/universe.yaml --sett a=b", "no option"),
        ("ray up configs/cluster/gcp.yaml", "no file"),
        ("ray job submit --adress http://127.0.0.1:8265 -- python -m cluster.retrain", "no option"),
        ("ray job submit -- python -m cluster.retrain --fresher", "has no"),
        ("kubectl apply -f cluster/deploy/kuberay/jobs.yaml", "no file"),
        ("make everything", "no target"),
        ("terraform apply", "unknown program"),
    ],
)
def test_a_command_that_does_not_exist_is_noticed(line: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check(shlex.split(line))


def test_every_link_of_the_page_leads_to_a_file() -> None:
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert len(links) > 5
    assert [link for link in links if not (PAGE.parent / link).exists()] == []


def test_what_each_cluster_needs_by_name_is_made_on_the_page() -> None:
    manifests = "".join(path.read_text() for path in (PROJECT / "cluster/deploy/kuberay").glob("*.yaml"))
    typed = [words for words in commands() if words[:2] == ["kubectl", "create"]]
    made = {words[3] if words[2] == "configmap" else words[4] for words in typed if words[2] != "-f"}
    assert made == {"swiftbolt-universe", "swiftbolt-database"}
    assert all(f"name: {name}" in manifests for name in made)
