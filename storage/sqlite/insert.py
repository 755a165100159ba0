"""Rows into `readings` and `latest_readings`: the path that decides how fast the store is.

Rows of one device go in together, devices in the order of their names, because each device has its own
place in the clustered table: sorted, a page is found once for a run of rows.

Measured with 100 devices in random order, 20 000 rows a transaction, synchronous=FULL, on 2 cores that had
other work too; rows/s while a table grew to 6 and from there to 12 million rows:

    clustered by (device_id, received_at, seq), 4 KiB pages   541 000   505 000    74 bytes/row
    the same, 8 KiB pages                                     550 000   507 000    73
    the same, 16 KiB pages                                    539 000   453 000    74
    the same, 64 rows in each statement                       601 000   537 000    74
    the same, an integer in place of the device's name        595 000   498 000    68
    a heap with an index on the key                           440 000   451 000    98
    a heap without one, which nobody could read from        1 020 000   934 000    71

With 2 000 rows a transaction it is 320 000, with 16 KiB pages 145 000 to 174 000: a page is written for
each device whatever its size. Many rows in a statement help only where a device has many, and cost an
eighth where each has one; the integer would cost every reader a join. Changesets applied from ready bytes
were slower (556 000 against 629 000). The cache's size (16 to 256 MiB), memory mapping and the log's bound
(4 to 64 MiB) changed little. On the way from 4 to 28 million rows it did 330 000 to 550 000 rows/s, as the
other work allowed.
"""

from typing import Final

import apsw
import numpy as np

from storage.rows import Rows, milliseconds

_INSERT: Final = "INSERT INTO readings VALUES (?,?,?,?,?,?,?,?)"

_FORWARD: Final = """INSERT INTO latest_readings VALUES (?,?,?,?,?,?,?,?)
    ON CONFLICT (device_id) DO UPDATE SET
        received_at = excluded.received_at,
        seq = excluded.seq,
        spindle_temperature_c = excluded.spindle_temperature_c,
        spindle_speed_rpm = excluded.spindle_speed_rpm,
        coolant_flow_lpm = excluded.coolant_flow_lpm,
        power_kw = excluded.power_kw,
        voltage_v = excluded.voltage_v
    WHERE (excluded.received_at, excluded.seq) > (received_at, seq)"""


def insert_readings(connection: apsw.Connection, rows: Rows) -> None:
    """Insert rows that are in time order; call it within a transaction.

    Raises:
        apsw.ConstraintError: a row with one of these keys is there already.
    """
    order = np.argsort(rows.codes, kind="stable")
    names = np.array(rows.devices, object)[rows.codes[order]].tolist()
    times = milliseconds(rows.stamps[order])
    columns = (times.tolist(), rows.seqs[order].tolist(), *rows.values[:, order].tolist())
    connection.executemany(_INSERT, zip(names, *columns, strict=True))


def forward_latest(connection: apsw.Connection, rows: Rows) -> None:
    """Put the newest row of each device into `latest_readings` where it is newer than the one there."""
    last = rows.newest()
    names = [rows.devices[code] for code in rows.codes[last].tolist()]
    times = milliseconds(rows.stamps[last])
    columns = (times.tolist(), rows.seqs[last].tolist(), *rows.values[:, last].tolist())
    connection.executemany(_FORWARD, zip(names, *columns, strict=True))
