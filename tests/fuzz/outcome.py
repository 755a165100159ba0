"""What the process of the fuzzer says at its end, in one line of JSON."""

import msgspec


class Outcome(msgspec.Struct, frozen=True):
    """How far it came."""

    inputs: int
    given_bytes: int
    """What the product was given in all of them."""

    finding: bytes | None = None
    """The input that failed, if one did."""

    what: str = ""
    """What was wrong with it."""
