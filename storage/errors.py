"""What can go wrong at a store: whose fault it is, and whether trying again helps."""


class StorageError(Exception):
    """Something the store can't do."""

    retriable = False
    """Whether the same call can succeed later without anybody changing the call."""


class StoreBusyError(StorageError):
    """Another program holds the database; it will let go."""

    retriable = True


class StoreFullError(StorageError):
    """There is no room on the disk of the tables."""

    retriable = True


class StoreUnavailableError(StorageError):
    """The database can't be reached or read at the moment."""

    retriable = True


class SchemaError(StorageError):
    """The database is not one of ours, or of another version than this program knows."""


class NodeClaimedError(StorageError):
    """Another journal writes under this node's id."""


class CursorMovedError(StorageError):
    """Somebody else has written what this writer was about to write."""


class DatabaseRestartedError(StorageError):
    """A node of the database started anew; what it may have forgotten is written again."""

    retriable = True


class StoreSlowError(StorageError):
    """The answer did not come before the deadline of a read; asking for less helps, or trying later."""

    retriable = True
