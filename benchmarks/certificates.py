"""Certificates for benchmarks, made as a plant would make them: an authority, a server and its machines."""

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from headrace.authority import make_authority, make_device, make_server

_DAYS: Final = 1


class Plant(msgspec.Struct, frozen=True):
    """A folder with certificates; names as `headrace.authority` writes them."""

    folder: str

    @classmethod
    def make(cls, folder: Path, machines: Sequence[str]) -> "Plant":
        """An authority, a server on this host, and machines."""
        make_authority(folder, folder.name, days=_DAYS)
        make_server(folder, ["localhost", "127.0.0.1"], days=_DAYS)
        for machine in machines:
            make_device(folder, machine, days=_DAYS)
        return cls(str(folder))

    def serve(self) -> dict[str, object]:
        """Keys of `[ingest]` for a server with mutual TLS."""
        return {
            "tls_cert": f"{self.folder}/localhost.pem",
            "tls_key": f"{self.folder}/localhost.key",
            "tls_client_ca": f"{self.folder}/ca.pem",
        }

    def client(self, machine: str | None) -> ssl.SSLContext:
        """How this machine connects to this plant's server; None is somebody without a certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(f"{self.folder}/ca.pem")
        if machine is not None:
            context.load_cert_chain(f"{self.folder}/{machine}.pem", f"{self.folder}/{machine}.key")
        return context
