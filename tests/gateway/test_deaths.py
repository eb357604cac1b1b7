"""A gateway that is killed, or told to stop, under load: nothing acknowledged is lost or cut."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from running import RunningServer, wait_until

from gateway.storage.tables import UsageRow
from tests.gateway.gateways import start_gateway
from tests.gateway.keyed import LONG, KeyedGateway, keyed_gateway
from tests.gateway.traffic import traffic

NUM_RUNNING = 3


def test_kill_in_mid_load_loses_nothing_and_counts_nothing_twice(
    server: RunningServer, tmp_path: Path
) -> None:
    with keyed_gateway(server, tmp_path) as door:
        key = door.key()
        with ThreadPoolExecutor(NUM_RUNNING) as pool, traffic(door, key, max_tokens=8) as seen:
            seen.wait(10)
            asked = [pool.submit(fail_to_complete, door, key) for _ in range(NUM_RUNNING)]
            wait_until(lambda: door.stats()["queue"]["running"] >= NUM_RUNNING, 10)
            door.running.process.kill()
            door.running.process.wait(10)
            for one in asked:
                one.result()

        again = start_gateway(server.grpc_port, tmp_path / "log again")
        wait_until(lambda: bool(marked(door.rows())), 10)
        assert again.stop() == 0
        rows = door.rows()

    finished = [row for row in rows if row.finished]
    assert {*seen.ids()} <= {row.id for row in finished}
    assert 1 <= len(marked(rows)) <= NUM_RUNNING + 2  # the callers' own, in mid-request
    assert len(rows) == len(finished) + len(marked(rows))


def marked(rows: list[UsageRow]) -> list[UsageRow]:
    """Those that the gateway died in."""
    return [row for row in rows if row.outcome == "interrupted" and not row.finished]


def fail_to_complete(door: KeyedGateway, key: str) -> None:
    """A request that its gateway doesn't survive."""
    try:
        door.complete(key, **LONG)
    except httpx.HTTPError:
        return
    raise AssertionError("the gateway answered before it was killed")


def test_stop_under_load_cuts_nobody_off(server: RunningServer, tmp_path: Path) -> None:
    with (
        keyed_gateway(server, tmp_path, "--drain-delay-s", "1") as door,
        traffic(door, door.key(), callers=6, max_tokens=60, ignore_eos=True) as seen,
    ):
        seen.wait(6)
        assert door.running.stop() == 0

        refused = [one for one in seen.answers if one.status_code != 200]
        assert {one.status_code for one in refused} == {503}
        assert all(int(one.headers["retry-after"]) >= 1 for one in refused)
        assert all(one.json()["choices"][0]["finish_reason"] for one in seen.answers[:6])
        # The door was closed, maybe before the kernel's queue was empty. Whoever was let in is
        # booked below, and so answered.
        assert {type(one) for one in seen.errors} <= {httpx.ConnectError, httpx.ReadError}
        booked = sorted(row.id for row in door.rows())
        assert booked == seen.ids()
        assert "Traceback" not in door.running.log()
