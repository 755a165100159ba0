"""Certificates are read anew at SIGHUP, and nobody who is connected notices."""

import shutil
import ssl
from pathlib import Path

from headrace.authority import Pair, make_server
from tests.faults.harness import Server
from tests.faults.waiting import wait_until
from tests.headrace.test_tls import connect, send
from tests.support.certificates import Certificates


def test_a_renewed_certificate_counts_for_who_connects_next(
    server: Server, certificates: Certificates, tmp_path: Path
) -> None:
    """The one who is there goes on; what can't be used refuses the whole file, limits included."""
    used = Pair(tmp_path / "server.pem", tmp_path / "server.key", certificates.server.until)
    _put(certificates.server, used)
    server.configure(_settings(used))
    server.start()
    with connect(server, certificates, "E0001") as first:
        send(first, b"E0001")
        renewed = make_server(certificates.folder, ["127.0.0.1", "localhost"], days=30, force=True)
        _put(renewed, used)
        server.reload()
        wait_until(lambda: server.said_event("configuration_changed"), "the certificate is read")
        assert _shown(server, certificates) == _first(renewed)
        used.key.write_text("no key")
        server.configure(_settings(used, max_connections=1))
        server.reload()
        wait_until(lambda: server.said_event("configuration_refused"), "the key is refused")
        assert _shown(server, certificates) == _first(renewed), "and there is no limit of one"
        send(first, b"E0001")
    (refused,) = [line for line in server.said() if line["event"] == "configuration_refused"]
    assert "[ingest] tls_key" in str(refused["reason"])
    assert server.stop() == 0


def _settings(used: Pair, **changed: object) -> dict[str, dict[str, object]]:
    files = {"tls_cert": str(used.certificate), "tls_key": str(used.key)}
    return {"ingest": {**files, **changed}}


def _put(made: Pair, used: Pair) -> None:
    shutil.copy(made.certificate, used.certificate)
    shutil.copy(made.key, used.key)


def _shown(server: Server, plant: Certificates) -> bytes | None:
    """The certificate that somebody who connects now is shown."""
    with connect(server, plant, "E0002") as machine:
        send(machine, b"E0002")
        return machine.getpeercert(binary_form=True)


def _first(pair: Pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())
