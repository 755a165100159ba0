"""Rows into `readings` and `latest_readings`: the path that decides how fast the store is.

Rows of one device go in together, devices in the order of their names, because each device has its own
place in the clustered table: sorted, a page is found once for a run of rows.
"""

from typing import Final

import apsw
import numpy as np

from storage.rows import Rows

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
    columns = (rows.received_at[order].tolist(), rows.seqs[order].tolist(), *rows.values[:, order].tolist())
    connection.executemany(_INSERT, zip(names, *columns, strict=True))


def forward_latest(connection: apsw.Connection, rows: Rows) -> None:
    """Put the newest row of each device into `latest_readings` where it is newer than the one there."""
    last = rows.newest()
    names = [rows.devices[code] for code in rows.codes[last].tolist()]
    columns = (rows.received_at[last].tolist(), rows.seqs[last].tolist(), *rows.values[:, last].tolist())
    connection.executemany(_FORWARD, zip(names, *columns, strict=True))
