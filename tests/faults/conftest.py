"""Clusters, stores and what a retrain gives that nobody disturbs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from support.database import database_url, temporary_database
from support.retrain_faults import FEW, MANY, Nodes, Scale, Site, nodes_of

__all__ = ["database_url"]

NewSite = Callable[[Scale], Site]


@pytest.fixture(scope="session")
def one_node() -> Iterator[Nodes]:
    """A cluster of one node with two CPUs, where nothing befalls anybody until a test says so."""
    with nodes_of([2]) as nodes:
        yield nodes


@pytest.fixture
def nodes(one_node: Nodes) -> Nodes:
    """The same, with nothing planned."""
    one_node.faults.plan()
    return one_node


@pytest.fixture
def job_nodes() -> Iterator[Nodes]:
    """One node that takes submitted jobs."""
    with nodes_of([2], has_jobs=True) as nodes:
        yield nodes


@pytest.fixture(scope="session")
def _new_site(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewSite]:
    with ExitStack() as stack:
        yield lambda scale: Site.of(
            tmp_path_factory.mktemp("site"), stack.enter_context(temporary_database(database_url)), scale
        )


@pytest.fixture
def few(_new_site: NewSite) -> Site:
    """A universe for the quick tests."""
    return _new_site(FEW)


@pytest.fixture
def many(_new_site: NewSite) -> Site:
    """A universe for the long tests."""
    return _new_site(MANY)


@pytest.fixture(scope="session")
def undisturbed_few(one_node: Nodes, _new_site: NewSite) -> str:
    """Digest of the release of ``few``, of a run that nobody touched."""
    one_node.faults.plan()
    return _new_site(FEW).retrain(one_node)


@pytest.fixture(scope="session")
def undisturbed(one_node: Nodes, _new_site: NewSite) -> str:
    """Digest of the release of ``many``, of a run that nobody touched."""
    one_node.faults.plan()
    return _new_site(MANY).retrain(one_node)
