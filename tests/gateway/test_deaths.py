"""A gateway that is killed, or told to stop, under load: nothing acknowledged is lost or cut."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from metrics_page import settled_page
from running import RunningServer, wait_until

from gateway.storage.tables import UsageRow
from tests.gateway.gateways import start_gateway
from tests.gateway.keyed import LONG, KeyedGateway, keyed_gateway
from tests.gateway.traffic import traffic

TOKENS = 'nanotriton_tokens_total{kind="completion",version="1"}'
MAX_CANARIES = 2 * 6  # the watchdog's of a minute, a token each
NUM_RUNNING = 3


def test_kill_in_mid_load_loses_nothing_and_counts_nothing_twice(
    server: RunningServer, tmp_path: Path
) -> None:
    before = settled_page(server)[TOKENS]
    with keyed_gateway(server, tmp_path) as door:
        key = door.key()
        with ThreadPoolExecutor(NUM_RUNNING) as pool, traffic(door, key, max_tokens=8) as seen:
            seen.wait(10)
            for _ in range(NUM_RUNNING):
                pool.submit(fail_to_complete, door, key)
            wait_until(lambda: door.stats()["queue"]["running"] >= NUM_RUNNING, 10)
            door.running.process.kill()
            door.running.process.wait(10)
        counted = settled_page(server)[TOKENS] - before

        again = start_gateway(server.grpc_port, tmp_path / "log again")
        wait_until(lambda: len(marked(door.rows())) >= NUM_RUNNING, 10)
        assert again.stop() == 0
        rows = door.rows()

    finished = [row for row in rows if row.finished]
    num_marked = len(marked(rows))
    assert {*seen.ids()} <= {row.id for row in finished}
    assert NUM_RUNNING <= num_marked <= NUM_RUNNING + 2  # and a caller's in mid-request, each
    lacking = counted - sum(row.completion_tokens for row in finished)
    assert 0 <= lacking <= num_marked * LONG["max_tokens"] + MAX_CANARIES


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
        assert {type(one) for one in seen.errors} <= {httpx.ConnectError}  # the door was closed
        booked = sorted(row.id for row in door.rows())
        assert booked == seen.ids()
        assert "Traceback" not in door.running.log()
