"""Which tests may run beside each other: `make test` has two processes, as those on Cassandra mostly wait.

All of these run in one of the two, so that nodes are started once and don't get into each other's way. Of the
others each file is one piece, and those of the browser are one together. Whoever gives out the pieces knows
the tests by their names only; so names must say it.
"""

from typing import Final

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

_ON_CASSANDRA: Final = frozenset(
    {
        "tests/headrace/test_copying.py",
        "tests/headrace/test_tables.py",
        "tests/orders/accounts/test_opening.py",
        "tests/orders/logs/test_opening.py",
        "tests/orders/logs/test_retention.py",
        "tests/orders/logs/test_tables_doc.py",
        "tests/devcluster/test_devcluster.py",
        "tests/devcluster/test_refusals.py",
        "tests/storage/test_copying.py",
        "tests/storage/test_copying_interrupted.py",
    }
)
"""Files that don't have it in their names."""

_CASSANDRA: Final = "cassandra"


def piece_of(nodeid: str) -> str:
    """What a test belongs to, by its name."""
    file = nodeid.partition("::")[0]
    if file in _ON_CASSANDRA or _CASSANDRA in nodeid.lower():
        return _CASSANDRA
    return "browser" if file.startswith("tests/browser/") else file


class _Pieces(LoadFileScheduling):  # type: ignore[misc]  # it ships no types
    """Gives out pieces, the largest first."""

    def _split_scope(self, nodeid: str) -> str:
        return piece_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer | None) -> _Pieces:
    """Have the pieces given out so, however many processes there are."""
    return _Pieces(config, log)


def pytest_itemcollected(item: pytest.Item) -> None:
    """See that names say what tests need.

    Raises:
        UsageError: one doesn't.
    """
    if item.get_closest_marker(_CASSANDRA) and piece_of(item.nodeid) != _CASSANDRA:
        raise pytest.UsageError(f"{item.nodeid} needs Cassandra: name its file in {__name__}")
