"""The reference: what every store must do, written plainly enough to be seen to be right.

Record by record and without a thought for speed. Nothing outlives the process. The other stores are
tested against it (tests/storage), and it serves tests that need a store and not a database.
"""

from storage.memory.reader import MemoryQuarantine, MemoryReadingStore
from storage.memory.tables import MemoryTables
from storage.memory.writer import MemoryTableWriter

__all__ = ["MemoryQuarantine", "MemoryReadingStore", "MemoryTableWriter", "MemoryTables"]
