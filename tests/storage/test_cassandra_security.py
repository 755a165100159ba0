"""A cluster that asks who comes, over TLS: names are checked, passwords come from the environment alone."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from devcluster import Cluster, missing
from storage.cassandra.reader import CassandraReadingStore
from storage.cassandra.writer import CassandraTableWriter
from storage.errors import SchemaError, StoreUnavailableError
from storage.settings import CassandraSettings
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
        "client_encryption_options": {
            "enabled": True,
            "optional": False,
            "keystore": str(folder / "node.p12"),
            "keystore_password": "changeit",
            "store_type": "PKCS12",
        },
    }
    with Cluster(folder / "cluster", port=0, settings=told, heap_mib=1024) as cluster:
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
    store = CassandraReadingStore(settings)
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
