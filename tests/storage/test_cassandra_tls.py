"""TLS to a cluster, at its socket: whose name is believed, and what of ours is shown."""

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from headrace.authority import Pair, make_server
from storage.cassandra.connect import Connected
from storage.errors import SchemaError, StoreUnavailableError
from storage.settings import CassandraSettings
from tests.support.certificates import Certificates

_WAIT_S = 20.0
_VERSION_4 = 0x04


class Call(NamedTuple):
    """What somebody who connected has shown."""

    name: str
    """In their certificate."""

    first: bytes


class Listener:
    """Takes connections as a node would, up to the first bytes, and ends them."""

    def __init__(self, pair: Pair, ca: str) -> None:
        self.calls: list[Call] = []
        self.refused: list[str] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pair.certificate, pair.key)
        self._context.load_verify_locations(ca)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # it was closed
            connection.settimeout(_WAIT_S)
            try:
                with self._context.wrap_socket(connection, server_side=True) as encrypted:
                    self.calls.append(Call(str(encrypted.getpeercert()), encrypted.recv(1)))
            except (OSError, ssl.SSLError) as error:
                self.refused.append(str(error))

    def close(self) -> None:
        """Take no more."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(_WAIT_S)


@contextmanager
def listening(pair: Pair, certificates: Certificates) -> Iterator[tuple[Listener, CassandraSettings]]:
    """A listener with this certificate, and how to get there."""
    listener = Listener(pair, str(certificates.ca))
    ours = certificates.devices["gateway-1"]
    settings = CassandraSettings(
        port=listener.port,
        tls_ca=str(certificates.ca),
        tls_cert=str(ours.certificate),
        tls_key=str(ours.key),
    )
    try:
        yield listener, settings
    finally:
        listener.close()


def test_our_certificate_is_shown_to_a_node_that_asks(certificates: Certificates) -> None:
    """Behind it the native protocol begins."""
    with listening(certificates.server, certificates) as (listener, settings):
        with pytest.raises(StoreUnavailableError):
            Connected(settings)
        assert listener.calls
        assert all("gateway-1" in call.name for call in listener.calls)
        assert {call.first[0] for call in listener.calls} == {_VERSION_4}


@pytest.mark.parametrize("key", ["tls_ca", "tls_cert", "tls_key"])
def test_a_pipe_in_place_of_a_file_is_refused(certificates: Certificates, tmp_path: Path, key: str) -> None:
    """Before anybody is connected to, and without waiting for who writes into it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with listening(certificates.server, certificates) as (listener, settings):
        with pytest.raises(
            SchemaError, match=r"pipe: no certificate can be read there: .*is no ordinary file"
        ):
            Connected(msgspec.structs.replace(settings, **{key: str(pipe)}))
        assert not listener.calls


def test_a_node_with_another_name_hears_nothing(certificates: Certificates) -> None:
    """Though the right authority has signed it: not who has any certificate of the plant is the database."""
    elsewhere = make_server(certificates.folder, ["cassandra.example"], days=1)
    with listening(elsewhere, certificates) as (listener, settings):
        with pytest.raises(StoreUnavailableError, match=r"no node can be reached.*127\.0\.0\.1"):
            Connected(settings)
        assert not [call for call in listener.calls if call.first]
