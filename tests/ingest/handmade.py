"""A client of TLS 1.3 that makes its records by hand, and so can say what no library would."""

import hashlib
import hmac
import socket
import ssl
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.ingest.building import DEADLINE_S

HANDSHAKE: Final = 22
DATA: Final = 23
"""What a record of TLS holds."""

HALF_A_KEY_UPDATE: Final = b"\x18\0\0\1"
"""Its head alone, without the byte that it announces."""


class HandMade:
    """Connected, its handshake done by the library; all that follows is encrypted here (RFC 8446, 5.2)."""

    def __init__(self, port: int, context: ssl.SSLContext, folder: Path) -> None:
        """`folder` takes the secrets that the library tells."""
        secrets = folder / "secrets"
        context.keylog_filename = str(secrets)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        self.sock = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
        done = False
        while not done:
            try:
                tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                pass
            self.sock.sendall(outgoing.read())
            if not done:
                incoming.write(self.sock.recv(65_536))
        cipher = tls.cipher()
        assert cipher is not None
        assert cipher[0] == "TLS_AES_256_GCM_SHA384"
        told = [line.split() for line in secrets.read_text().splitlines()]
        secret = bytes.fromhex(next(words[2] for words in told if words[0] == "CLIENT_TRAFFIC_SECRET_0"))
        self._key, self._nonce = _expanded(secret, b"key", 32), _expanded(secret, b"iv", 12)
        self._sent = 0

    def record(self, kind: int, data: bytes) -> bytes:
        """The next record of TLS."""
        inner = data + bytes([kind])
        head = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2, "big")
        nonce = (int.from_bytes(self._nonce, "big") ^ self._sent).to_bytes(12, "big")
        self._sent += 1
        return head + AESGCM(self._key).encrypt(nonce, inner, head)


def _expanded(secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label of one block (RFC 8446, 7.1)."""
    label = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes([len(label)]) + label + b"\0\1"
    return hmac.digest(secret, info, hashlib.sha384)[:length]
