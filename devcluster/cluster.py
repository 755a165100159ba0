"""Some nodes that make one cluster, in one folder.

`cluster.json` keeps what must not change as long as there is data: how many nodes, their addresses, the port
between them. Nodes are on addresses of their own of the loopback network and share their ports; several
clusters can live at once on different ports.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Self

from devcluster import ports, tools
from devcluster.errors import FolderError
from devcluster.files import locked
from devcluster.node import START_S, Node
from devcluster.settings import node_settings


@dataclass(frozen=True)
class Layout:
    """What a folder's cluster is."""

    nodes: int
    first_address: str
    port: int
    storage_port: int

    @property
    def addresses(self) -> list[str]:
        """Those of the nodes, one after the other."""
        first = ip_address(self.first_address)
        return [str(first + number) for number in range(self.nodes)]


class Cluster:
    """A Cassandra cluster on this machine: not yet started, or running since an earlier call."""

    def __init__(
        self,
        folder: Path,
        *,
        nodes: int = 1,
        first_address: str | None = None,
        port: int = 9042,
        settings: Mapping[str, object] | None = None,
        heap_mib: int | None = None,
        short_lived: bool = False,
        told_address: str | None = None,
    ) -> None:
        """Settings are extra keys of `cassandra.yaml`; port 0 takes a free one. Raises FolderError.

        One node is on 127.0.0.1 with 2 GiB of heap; several begin at 127.0.0.2, with 768 MiB each. Nodes
        that are short-lived take less of the processors for some minutes, and more later. Where something
        stands before the nodes, clients are told addresses that begin at `told_address`.
        """
        self.folder = folder.resolve()
        wanted = Layout(nodes, first_address or ("127.0.0.1" if nodes == 1 else "127.0.0.2"), port, 0)
        self._layout = _settle(wanted, read_layout(self.folder), self.folder)
        self._settings = dict(settings or {})
        self._heap_mib = heap_mib or (2048 if nodes == 1 else 768)
        self._short_lived = short_lived
        self._told_address = told_address
        self.nodes = [self._node(number, address) for number, address in enumerate(self.contact_points, 1)]

    @property
    def contact_points(self) -> list[str]:
        """The addresses of all nodes."""
        return self._layout.addresses

    @property
    def port(self) -> int:
        """Where clients connect, the same at all nodes."""
        return self._layout.port

    @property
    def running(self) -> bool:
        """Whether all nodes run."""
        return all(node.running for node in self.nodes)

    def start(self, *, wait: bool = True, seconds: float = START_S) -> None:
        """Start the nodes that don't run; if one fails or takes too long, those just started are ended.

        Raises ToolsError, FetchError, FolderError, PortError or StartError.
        """
        tools.require()
        self.prepare()
        with locked(self.folder / "lock"):
            idle = [node for node in self.nodes if not node.running]
            try:
                for node in idle:
                    node.start()
                if wait:
                    self.wait_up(seconds)
            except BaseException:
                for node in idle:
                    node.kill()
                raise

    def prepare(self) -> None:
        """Make the folder, and write down whose it is; FolderError if its nodes run on another port."""
        there = read_layout(self.folder)
        if there and there.port != self.port and any(node.running for node in self.nodes):
            raise FolderError(f"{self.folder}: its cluster runs on port {there.port}; stop it first")
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "cluster.json").write_text(json.dumps(asdict(self._layout)) + "\n")

    def wait_up(self, seconds: float = START_S) -> None:
        """Wait until all nodes answer and see each other; StartError."""
        deadline = time.monotonic() + seconds
        for node in self.nodes:
            node.wait_up(deadline - time.monotonic())
        for node in self.nodes:
            node.wait_sees(self.contact_points, deadline - time.monotonic())

    def stop(self) -> None:
        """End all nodes in good order; nothing if none runs."""
        for node in self.nodes:
            node.begin_stop()
        for node in self.nodes:
            node.finish_stop()

    def __enter__(self) -> Self:
        """Start it for the block."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it, however the block ended."""
        self.stop()

    def _node(self, number: int, address: str) -> Node:
        folder = self.folder / f"node{number}"
        told = node_settings(
            folder,
            address,
            port=self.port,
            storage_port=self._layout.storage_port,
            seeds=self.contact_points,
        )
        if self._told_address is not None:
            told["broadcast_rpc_address"] = str(ip_address(self._told_address) + number - 1)
        settings = {**told, **self._settings}
        return Node(
            folder, address, self.port, settings, heap_mib=self._heap_mib, short_lived=self._short_lived
        )


def read_layout(folder: Path) -> Layout | None:
    """What cluster a folder holds; none if it holds none."""
    try:
        return Layout(**json.loads((folder / "cluster.json").read_text()))
    except FileNotFoundError:
        return None


def _settle(wanted: Layout, there: Layout | None, folder: Path) -> Layout:
    """The ports that are still open, from what is in the folder or free ones."""
    if there is None:
        port = wanted.port or ports.take_free(wanted.addresses)
        return Layout(wanted.nodes, wanted.first_address, port, ports.take_free(wanted.addresses))
    if wanted.addresses != there.addresses:
        raise FolderError(
            f"{folder} holds a cluster of {', '.join(there.addresses)}, not {', '.join(wanted.addresses)}: "
            "stop it and remove the folder, or take another"
        )
    return Layout(there.nodes, there.first_address, wanted.port or there.port, there.storage_port)
