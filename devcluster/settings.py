"""What a node is told: `cassandra.yaml`, the flags of its JVM, and what it logs.

All that isn't here is Cassandra's default, so that what is seen here is what is met elsewhere.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

LOGBACK: Final = """\
<configuration>
  <appender name="console" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%-5level %date [%thread] %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="console"/></root>
</configuration>
"""
"""Everything goes to standard output, which is the node's log: what the JVM itself says stands in it too."""

_EXPORTS: Final = (
    "java.base/jdk.internal.misc",
    "java.base/jdk.internal.ref",
    "java.base/sun.nio.ch",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.rmi/sun.rmi.transport.tcp",
    "java.sql/java.sql",
    "jdk.unsupported/sun.misc",
)
_OPENS: Final = (
    "java.base/java.io",
    "java.base/java.lang",
    "java.base/java.lang.module",
    "java.base/java.nio",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.util.jar",
    "java.base/sun.nio.ch",
    "jdk.management/com.sun.management.internal",
)
_PROPERTIES: Final = (
    "-Dcassandra-foreground=yes",
    "-Dcassandra.ring_delay_ms=1000",  # with 0, nodes that start together don't find each other
    "-Dcassandra.skip_wait_for_gossip_to_settle=0",
    "-Dcassandra.shutdown_announce_in_ms=200",  # how long the others have to hear of a stop; they are near
    "-Dcassandra.superuser_setup_delay_ms=0",  # so that one can log in at once where a password is asked
    "-Djdk.attach.allowAttachSelf=true",
)


def node_settings(
    folder: Path, address: str, *, port: int, storage_port: int, seeds: Sequence[str]
) -> dict[str, object]:
    """What every node needs to be told, before the extra keys of its cluster."""
    seed_list = ",".join(f"{seed}:{storage_port}" for seed in seeds)
    return {
        "cluster_name": "headrace",
        "num_tokens": 4,
        "auto_bootstrap": False,
        "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
        "endpoint_snitch": "SimpleSnitch",
        "seed_provider": [
            {
                "class_name": "org.apache.cassandra.locator.SimpleSeedProvider",
                "parameters": [{"seeds": seed_list}],
            }
        ],
        "listen_address": address,
        "rpc_address": address,
        "native_transport_port": port,
        "storage_port": storage_port,
        "data_file_directories": [str(folder / "data")],
        "commitlog_directory": str(folder / "commitlog"),
        "saved_caches_directory": str(folder / "saved_caches"),
        "hints_directory": str(folder / "hints"),
        "cdc_raw_directory": str(folder / "cdc_raw"),
        "commitlog_sync": "periodic",
        "commitlog_sync_period": "10000ms",
        "auto_snapshot": False,
    }


def yaml(settings: Mapping[str, object]) -> str:
    """The text of `cassandra.yaml`: JSON, which is YAML too."""
    return json.dumps(settings, indent=2) + "\n"


def wants_tls(settings: Mapping[str, object]) -> bool:
    """Whether a client has to come with TLS."""
    options = settings.get("client_encryption_options")
    return isinstance(options, Mapping) and bool(options.get("enabled")) and not options.get("optional")


def java_command(
    java: Path, jars: Path, agent: Path, folder: Path, *, heap_mib: int, short_lived: bool, jmx_port: int
) -> list[str]:
    """The command that runs the node of this folder.

    The heap begins at a quarter of its size: Cassandra locks into memory what it has then, and a node that
    does little takes 0.9 GB instead of 2.5, and starts some seconds sooner. One that is short-lived does
    without the second compiler, whose work takes more than it saves within the first minutes.
    """
    return [
        str(java),
        f"-Xms{heap_mib // 4}m",
        f"-Xmx{heap_mib}m",
        "-XX:+UseG1GC",
        *(["-XX:TieredStopAtLevel=1"] if short_lived else []),
        "-XX:+ExitOnOutOfMemoryError",
        f"-XX:ErrorFile={folder / 'jvm-crash.log'}",
        *_modules(),
        f"-javaagent:{agent}",
        f"-Dcassandra.config={(folder / 'cassandra.yaml').as_uri()}",
        f"-Dcassandra.storagedir={folder}",
        f"-Dcassandra.jmx.local.port={jmx_port}",
        f"-Dlogback.configurationFile={(folder / 'logback.xml').as_uri()}",
        *_PROPERTIES,
        "-cp",
        f"{jars}/*",
        "org.apache.cassandra.service.CassandraDaemon",
    ]


def nodetool_command(
    java: Path, jars: Path, folder: Path, *, jmx_port: int, words: Sequence[str]
) -> list[str]:
    """The command that gives the node of this folder an order; what was asked is kept in the folder, too."""
    return [
        str(java),
        "-Xmx128m",
        *_modules(),
        f"-Duser.home={folder}",
        f"-Dlogback.configurationFile={(folder / 'logback.xml').as_uri()}",
        "-cp",
        f"{jars}/*",
        "org.apache.cassandra.tools.NodeTool",
        "-h",
        "127.0.0.1",
        "-p",
        str(jmx_port),
        *words,
    ]


def _modules() -> list[str]:
    """What of Java's own Cassandra reaches into."""
    return [
        *(f"--add-exports={package}=ALL-UNNAMED" for package in _EXPORTS),
        *(f"--add-opens={package}=ALL-UNNAMED" for package in _OPENS),
    ]
