"""Whether a node answers: the first question of the CQL protocol, on a plain socket.

A port that accepts is not enough, so a node is asked for its options and has to say them. Where it takes
only TLS it is asked inside TLS; there a refused certificate is an answer too, since this test has none.
"""

import socket
import ssl
import struct

_HEADER = struct.Struct(">BBhBI")
_OPTIONS = _HEADER.pack(0x04, 0, 0, 0x05, 0)
_ANSWER, _SUPPORTED = 0x84, 0x06
_PATIENCE_S = 2.0


def answers(address: str, port: int, *, tls: bool) -> bool:
    """Ask once; False if nobody answers within two seconds."""
    try:
        with socket.create_connection((address, port), _PATIENCE_S) as plain:
            return _ask_in_tls(plain) if tls else _ask(plain)
    except OSError:
        return False


def _ask(connection: socket.socket) -> bool:
    connection.sendall(_OPTIONS)
    header = b""
    while len(header) < _HEADER.size:
        piece = connection.recv(_HEADER.size - len(header))
        if not piece:
            return False
        header += piece
    version, _, _, opcode, _ = _HEADER.unpack(header)
    return (version, opcode) == (_ANSWER, _SUPPORTED)


def _ask_in_tls(plain: socket.socket) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with context.wrap_socket(plain) as connection:
            return _ask(connection)
    except ssl.SSLEOFError:
        return False
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
