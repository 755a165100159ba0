"""TLS as a machine speaks it: whom it trusts, and what it proves itself with.

Neither uvloop nor Python's TLS sockets can end one half of a connection and go on reading. So who wants the
last acknowledgement waits for it, and closes then.
"""

import ssl
from functools import cache
from pathlib import Path

from simulator.errors import EncryptionError


@cache
def client_context(ca: Path, cert: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """How to connect to a server whose certificate is from one of these authorities.

    Raises:
        EncryptionError: a file can't be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(ca)
        if cert is not None:
            context.load_cert_chain(cert, key)
    except OSError as error:  # the library's own errors are among them
        raise EncryptionError(f"{ca if cert is None else cert}: can't be used for TLS: {error}") from error
    return context
