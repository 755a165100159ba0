"""What can go wrong with a cluster on this machine; each says what to do about it."""


class DevClusterError(Exception):
    """The base of all of them."""


class ToolsError(DevClusterError):
    """JDK 17 or Maven is not there; install it and try again."""


class FetchError(DevClusterError):
    """Cassandra's jars could not be fetched; trying again helps when the network was the reason."""


class FolderError(DevClusterError):
    """The folder holds another cluster than the one asked for; take another folder, or stop and remove it."""


class PortError(DevClusterError):
    """Somebody else has the port."""


class StartError(DevClusterError):
    """A node ended while it started, or took too long; its log says why."""


class PauseError(DevClusterError):
    """A node was told to stand still, and some of its threads go on."""


class NodetoolError(DevClusterError):
    """A node did not do what it was told; it says why."""


class NotRunningError(DevClusterError):
    """The node that should be paused or measured doesn't run."""
