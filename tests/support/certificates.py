"""Certificates for tests, made once: an authority, a server, some machines, and those of a stranger."""

from pathlib import Path
from typing import NamedTuple

import pytest

from headrace.authority import Pair, make_authority, make_device, make_server


class Certificates(NamedTuple):
    """Where they are."""

    folder: Path
    """Of the authority: `headrace.authority` makes more in it."""

    ca: Path
    server: Pair
    """For localhost and 127.0.0.1."""

    devices: dict[str, Pair]
    """Of E0001, E0002 and gateway-1."""

    stranger: Pair
    """Of E0001 too, by another authority."""

    stranger_server: Pair


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A plant's certificates."""
    folder, elsewhere = tmp_path_factory.mktemp("certificates"), tmp_path_factory.mktemp("stranger")
    ca = make_authority(folder, "Plant", days=30)
    make_authority(elsewhere, "Stranger", days=30)
    return Certificates(
        folder,
        ca.certificate,
        make_server(folder, ["localhost", "127.0.0.1"], days=30),
        {name: make_device(folder, name, days=30) for name in ("E0001", "E0002", "gateway-1")},
        make_device(elsewhere, "E0001", days=30),
        make_server(elsewhere, ["localhost"], days=30),
    )
