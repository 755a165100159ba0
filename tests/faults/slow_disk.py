"""`python -m tests.faults.slow_disk SECONDS headrace serve ...`: that command, on a disk slow to sync.

Every sync of a database of this process takes so much longer: the journal's above all. The sinks are
processes of their own, and their disk is as fast as ever, so that nothing but the journal is held up.
"""

import sys

from headrace.cli import main
from tests.ingest.disks import Disk


def run() -> None:
    """Break the disk, and become the command."""
    disk = Disk(default=True)
    disk.sync_s = float(sys.argv[1])
    disk.appear()
    sys.argv = sys.argv[2:]
    main()


if __name__ == "__main__":
    run()
