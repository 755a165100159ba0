"""Certificates are read anew at SIGHUP, and nobody who is connected notices."""

import os
import shutil
import ssl
from contextlib import suppress
from pathlib import Path

from headrace.authority import Pair, make_authority, make_device, make_server
from headrace.revoking import make_list, revoke
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


def test_a_revoked_certificate_is_cut_off_and_let_in_no_more(server: Server, tmp_path: Path) -> None:
    """By the list that SIGHUP reads anew; a list that can't be used changes nothing."""
    folder = tmp_path / "plant"
    ca = make_authority(folder, "Plant", days=30)
    listed = make_list(folder)
    own = make_server(folder, ["localhost"], days=30)
    devices = {name: make_device(folder, name, days=30) for name in ("E0001", "E0002")}
    plant = Certificates(folder, ca.certificate, own, devices, devices["E0001"], own)
    server.configure(
        _settings(own, ack_port=0, tls_client_ca=str(ca.certificate), tls_client_crl=str(listed.path))
    )
    server.start()
    with connect(server, plant, "E0001") as thief, connect(server, plant, "E0002") as other:
        send(thief, b"E0001")
        revoke(folder, ["E0001"])
        server.reload()
        assert thief.recv(100) == b"", "it is closed"
        refused = 'headrace_connections_refused_total{why="tls_failed"}'
        with suppress(OSError), connect(server, plant, "E0001") as again:
            again.recv(100)
        wait_until(lambda: server.metric(refused) == 1, "the refusal")
        listed.path.write_text("nonsense")
        server.reload()
        wait_until(lambda: server.said_event("configuration_refused"), "the list is refused")
        with suppress(OSError), connect(server, plant, "E0001") as again:
            again.recv(100)
        wait_until(lambda: server.metric(refused) == 2, "another refusal")
        send(other, b"E0002")
    assert server.metric('headrace_connections_closed_total{why="revoked"}') == 1
    assert server.stop() == 0


def test_a_pipe_in_place_of_a_file_is_refused_and_waited_for_by_nobody(
    server: Server, certificates: Certificates, tmp_path: Path
) -> None:
    """The next reload is heard once it is a file again, and the server ends when it is told to."""
    authorities = tmp_path / "ca.pem"
    shutil.copy(certificates.ca, authorities)
    server.configure(_settings(certificates.server, tls_client_ca=str(authorities)))
    server.start()
    authorities.unlink()
    os.mkfifo(authorities)
    server.reload()
    wait_until(lambda: server.said_event("configuration_refused"), "the pipe is refused")
    authorities.unlink()
    shutil.copy(certificates.ca, authorities)
    server.reload()
    wait_until(lambda: server.said_event("configuration_changed"), "the file is read")
    server.config.unlink()
    os.mkfifo(server.config)
    server.reload()
    wait_until(lambda: len(_reasons(server)) > 1, "the other pipe is refused")
    assert _reasons(server) == [
        f"[ingest] tls_client_ca: {authorities}: is no ordinary file",
        f"{server.config}: is no ordinary file",
    ]
    assert server.stop() == 0


def _reasons(server: Server) -> list[object]:
    return [line["reason"] for line in server.said() if line["event"] == "configuration_refused"]


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
