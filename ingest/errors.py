"""What can go wrong between the socket and the sinks, and whether trying again helps."""

from ingest.reasons import WhyClosed, WhyRefused


class IngestError(Exception):
    """Something this side can't do; the message is one line that says what, where and what to do."""


class JournalError(IngestError):
    """The journal can't be used as it is."""


class JournalLockedError(JournalError):
    """Another server has the journal."""


class JournalFullError(JournalError):
    """No room on the journal's disk, or no file to be had; the same commit succeeds when there is."""


class JournalBrokenError(JournalError):
    """The journal's file failed; nothing may be written to it again."""


class ClockError(IngestError):
    """The wall clock is not where it can be; somebody has to confirm it."""


class ListenError(IngestError):
    """A listener can't be opened."""


class CertificateError(IngestError):
    """A certificate or its key can't be used; the ones before stay."""


class HandshakeError(IngestError):
    """A client that could not be let in; its own fault, and nothing to be done here."""

    def __init__(self, why: WhyRefused, reason: str) -> None:
        """`why` is what it is counted under, `reason` what an engineer wants to know."""
        super().__init__(reason)
        self.why = why


class StreamError(IngestError):
    """A client whose TLS could not go on; its own fault, and nothing to be done here."""

    def __init__(self, why: WhyClosed) -> None:
        """`why` is what its connection ends with."""
        super().__init__(why)
        self.why = why
