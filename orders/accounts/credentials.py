"""Secrets that callers show again: of sessions, of tokens, and what is derived of them. Pure but for chance.

A secret is 256 bits of chance, so its SHA-256 says nothing about it and needs no salt. A token is
`hrt_<id>_<secret>`: the prefix lets scanners for leaked secrets find it, the id says which row to compare it
with.
"""

import hashlib
import hmac
import re
import secrets
from typing import Final

_ID_BYTES: Final = 6
_SECRET_BYTES: Final = 32
_TOKEN: Final = re.compile(r"hrt_([0-9a-f]{12})_[0-9a-f]{64}", re.ASCII)
_SESSION: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CSRF: Final = b"headrace csrf 1"


def new_secret() -> str:
    """Of a session: 64 hexadecimal digits."""
    return secrets.token_hex(_SECRET_BYTES)


def is_secret(text: str) -> bool:
    """Whether a session could have this secret."""
    return _SESSION.fullmatch(text) is not None


def new_token() -> tuple[str, str]:
    """The id of a token, 12 hexadecimal digits, and the token."""
    id_ = secrets.token_hex(_ID_BYTES)
    return id_, f"hrt_{id_}_{new_secret()}"


def id_of(token: str) -> str | None:
    """The id in a token; None where the text is none."""
    found = _TOKEN.fullmatch(token)
    return None if found is None else found[1]


def digest_of(secret: str) -> bytes:
    """What is kept of a secret or a whole token: 32 bytes."""
    return hashlib.sha256(secret.encode("ascii")).digest()


def is_same(digest: bytes, other: bytes) -> bool:
    """Whether two digests are the same, in a time that does not say where they differ."""
    return hmac.compare_digest(digest, other)


def csrf_of(secret: str) -> str:
    """What proves that a request comes from a page of ours; it does not lead back to the secret."""
    return hmac.digest(secret.encode("ascii"), _CSRF, "sha256").hex()
