"""`headrace db backup`: each of the embedded databases."""

from pathlib import Path

import pytest

from headrace.config import Config
from headrace.databases import NAMES, files
from storage.sqlite.connect import open_for_reading, open_for_writing
from tests.headrace.conftest import Call


def test_every_database_is_a_file_of_its_own() -> None:
    """No two purposes share one, nor what says which it is."""
    found = files(Config()).values()
    assert len({file.path for file in found}) == len(NAMES)
    assert len({file.tables.application_id for file in found}) == len(NAMES)


@pytest.mark.parametrize("what", NAMES)
def test_each_is_copied_and_checked(call: Call, tmp_path: Path, what: str) -> None:
    """By its name on the command line; a copy is the same kind of file."""
    path = tmp_path / ("tables.db" if what == "tables" else f"{what}.db")
    tables = files(Config())[what].tables
    open_for_writing(path, tables).close()
    copy = tmp_path / "copy.db"
    done = call("db", "backup", str(copy), "--what", what)
    assert done.returncode == 0, done.stderr
    open_for_reading(copy, tables).close()


def test_what_there_is_not_is_named(call: Call, tmp_path: Path) -> None:
    """And nothing is left in its place."""
    done = call("db", "backup", str(tmp_path / "copy.db"), "--what", "accounts")
    assert done.returncode == 2
    assert "accounts.db" in done.stderr
    assert not (tmp_path / "copy.db").exists()
