"""The first bytes of a TLS connection, looked at before the library sees them.

A hello says first how long it will be, and the library sets as much memory aside: up to 128 KiB for 43 bytes
of somebody who has proved nothing. Real ones have some hundred bytes, or two thousand with newer keys.
(RFC 8446, 5.1 and 4: type, version and length of a record; type and length of a message.)
"""

from typing import Final

HEAD: Final = 9
"""Bytes that say how long the hello will be."""

LONGEST: Final = 16_384

_RECORD_HEAD: Final = 5
_HANDSHAKE: Final = 22
_MESSAGE_HEAD: Final = 4


def fits(head: bytes) -> bool:
    """Whether a connection may go on that begins so, as far as that can be seen in its first `HEAD` bytes.

    What is no TLS is left to the library.
    """
    if len(head) < _RECORD_HEAD or head[0] != _HANDSHAKE:
        return True
    if int.from_bytes(head[3:_RECORD_HEAD]) < _MESSAGE_HEAD:
        return False  # nobody cuts a hello up so but to hide its length
    return len(head) < HEAD or int.from_bytes(head[_RECORD_HEAD + 1 : HEAD]) <= LONGEST
