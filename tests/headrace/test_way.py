"""The whole way: simulated machines, a real server, and rows that say what the machines did."""

from collections import defaultdict
from pathlib import Path

import pytest

from simulator.run import SimulateOptions, simulate
from simulator.truth import Truth
from tests.faults.harness import Server
from tests.faults.oracle import check_books, reading
from tests.support.energy import Row, recompute

ROWS = """SELECT device_id, received_at / 1000.0, spindle_temperature_c, spindle_speed_rpm, coolant_flow_lpm,
                 power_kw, voltage_v FROM readings ORDER BY device_id, received_at, seq"""


def stored_rows(tables: Path) -> dict[str, list[Row]]:
    """The rows of each device, in the order of time."""
    rows: dict[str, list[Row]] = defaultdict(list)
    with reading(tables) as db:
        for device, at_s, *values in db.execute(ROWS):
            temperature, speed, flow, power, voltage = values
            rows[device].append((at_s, (temperature, speed, flow, power, voltage)))
    return rows


async def test_energy_and_times_in_the_tables_are_those_of_the_machines(server: Server) -> None:
    """Counts are exact; energy and seconds per state are within what ticks of 20 ms and rounding leave."""
    server.start()
    server.wait_drained()  # its sink has begun, so nothing holds up the stamps
    truth_file = server.tables.with_name("truth.json")
    options = SimulateOptions(
        port=server.ack_port, devices=8, rate=20.0, duration_s=8.0, malformed=0.1, ack=True, truth=truth_file
    )
    await simulate(options)
    server.wait_drained()
    assert server.stop() == 0
    truth, rows = Truth.read(truth_file), stored_rows(server.tables)
    assert truth.totals.acknowledged == truth.totals.sent
    for device, known in truth.devices.items():
        kwh, seconds = recompute(rows[device])
        assert len(rows[device]) == known.valid
        assert kwh == pytest.approx(known.kwh, rel=0.03, abs=1e-4)
        assert seconds == pytest.approx(known.seconds, abs=0.5)
    check_books(server.tables)
