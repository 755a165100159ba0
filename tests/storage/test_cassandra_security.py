"""A cluster that asks who comes, over TLS: names are checked, passwords come from the environment alone."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from devcluster import Cluster, missing
from headrace import databases
from orders.accounts.cassandra import CassandraAccountStore
from orders.book.cassandra import CassandraOrderBook
from orders.logs.cassandra import CassandraLogStore
from orders.settings import KeepDays
from storage.cassandra.connect import Connected
from storage.cassandra.reader import CassandraReadingStore
from storage.cassandra.schema import keyspace_cql
from storage.cassandra.writer import CassandraTableWriter
from storage.errors import SchemaError, StoreUnavailableError
from storage.settings import CassandraSettings, StorageSettings
from tests.orders.logs.building import row
from tests.storage.building import JOURNAL, NOON, Machinery, record
from tests.support.needing import need

pytestmark = [pytest.mark.cassandra, pytest.mark.timeout(300)]

PASSWORD = "HEADRACE_CASSANDRA_PASSWORD"  # noqa: S105  # the name of a variable


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The node's key store, its certificate, and one of somebody else."""
    need(not missing(), missing())
    folder = tmp_path_factory.mktemp("tls")
    for name in ("node", "stranger"):
        store = folder / f"{name}.p12"
        subject = ["-dname", f"CN={name}", "-ext", "san=ip:127.0.0.1"]
        _keytool("-genkeypair", "-keyalg", "EC", "-alias", name, *subject, "-validity", "2", store=store)
        _keytool("-exportcert", "-rfc", "-alias", name, "-file", str(folder / f"{name}.pem"), store=store)
    return folder


def _keytool(*words: str, store: Path) -> None:
    keytool = shutil.which("keytool")
    need(keytool is not None, "keytool of the JDK is needed")
    subprocess.run(
        [str(keytool), *words, "-keystore", str(store), "-storepass", "changeit"],
        check=True,
        capture_output=True,
    )


@pytest.fixture(scope="module")
def settings(folder: Path) -> Iterator[CassandraSettings]:
    """A node that talks TLS only, and to its own users only."""
    told = {
        "authenticator": "PasswordAuthenticator",
        "authorizer": "CassandraAuthorizer",
        "client_encryption_options": {
            "enabled": True,
            "optional": False,
            "keystore": str(folder / "node.p12"),
            "keystore_password": "changeit",
            "store_type": "PKCS12",
        },
    }
    with Cluster(folder / "cluster", port=0, settings=told, heap_mib=1024, short_lived=True) as cluster:
        yield CassandraSettings(
            contact_points=tuple(cluster.contact_points),
            port=cluster.port,
            username="cassandra",
            tls_ca=str(folder / "node.pem"),
        )


async def test_rows_go_over_tls_and_come_back(
    settings: CassandraSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the right password and the right authority."""
    monkeypatch.setenv(PASSWORD, "cassandra")
    writer = CassandraTableWriter(settings)
    writer.claim(3, JOURNAL, adopt=False)
    writer.write(None, [Machinery().block([(1, record("E0001") * 900)])], JOURNAL)
    writer.close()
    store = CassandraReadingStore(settings, deadline_s=30.0)
    assert len(await store.history("E0001", 0, NOON + 1, limit=1_000)) == 900
    await store.close()


def test_a_wrong_password_is_no_reason_to_try_again(
    settings: CassandraSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said where the password belongs, and the password is not repeated."""
    monkeypatch.setenv(PASSWORD, "not-this-one")
    with pytest.raises(SchemaError, match=f"username and {PASSWORD}") as error:
        CassandraTableWriter(settings)
    assert "not-this-one" not in str(error.value)
    assert not error.value.retriable


def test_a_node_whose_certificate_nobody_signed_is_not_trusted(
    settings: CassandraSettings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent to it, and the message says what is wrong with it."""
    monkeypatch.setenv(PASSWORD, "cassandra")
    with pytest.raises(StoreUnavailableError, match=r"no node can be reached.*certificate"):
        CassandraTableWriter(msgspec.structs.replace(settings, tls_ca=str(folder / "stranger.pem")))


def test_a_client_without_tls_is_not_let_in(
    settings: CassandraSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node does not speak to it."""
    monkeypatch.setenv(PASSWORD, "cassandra")
    with pytest.raises(StoreUnavailableError, match="no node can be reached"):
        CassandraTableWriter(msgspec.structs.replace(settings, tls_ca=None))


async def test_after_db_init_nothing_has_to_be_made_any_more(
    settings: CassandraSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may only read and change rows serves them all: telemetry, accounts, orders and log."""
    monkeypatch.setenv(PASSWORD, "cassandra")
    made = msgspec.structs.replace(settings, keyspace="made_before")
    with closing(Connected(made)) as administrator:
        administrator.define(keyspace_cql(made.keyspace, administrator.datacenter, 1))
        databases.make(StorageSettings(backend="cassandra", cassandra=made))
        administrator.execute("CREATE ROLE plant WITH PASSWORD = 'of-the-plant' AND LOGIN = true")
        for right in ("SELECT", "MODIFY"):
            administrator.execute(f"GRANT {right} ON KEYSPACE made_before TO plant")
    monkeypatch.setenv(PASSWORD, "of-the-plant")
    plant = msgspec.structs.replace(made, username="plant")
    databases.make(StorageSettings(backend="cassandra", cassandra=plant))
    with closing(CassandraTableWriter(plant)) as writer:
        writer.claim(3, JOURNAL, adopt=False)
        writer.write(None, [Machinery().block([(1, record("E0001"))])], JOURNAL)
    accounts, book = CassandraAccountStore(plant, deadline_s=30.0), CassandraOrderBook(plant, deadline_s=30.0)
    log = CassandraLogStore(plant, KeepDays(), deadline_s=30.0)
    assert (await accounts.users(), await book.undecided()) == ([], [])
    await log.append([row(NOON, reason="none")])
    for store in (accounts, book, log):
        await store.close()
    elsewhere = msgspec.structs.replace(plant, keyspace="elsewhere")
    with pytest.raises(
        SchemaError, match=r"plant has no CREATE permission on <all keyspaces>.*db init"
    ) as error:
        CassandraTableWriter(elsewhere)
    assert PASSWORD not in str(error.value)
