"""What dies comes back: every process is killed in mid-stream, with no hand on the recovery."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from running import RunningServer, start_server, wait_until

from clients import ClientError, Unavailable
from nanotriton.engine.request import Settings

# Hot, so that the text never repeats itself: repetitions are verified nine tokens at a time, and
# the whole of it could be sent before anything is killed.
LONG = {"max_tokens": 480, "ignore_eos": True, "temperature": 2.0}


def works(server: RunningServer) -> bool:
    """Whether both doors complete."""
    try:
        with server.client(retries=0) as client:
            client.complete("def f(", max_tokens=2, timeout_s=5)
            with client.stream("def f(", max_tokens=2, timeout_s=5) as stream:
                list(stream)
    except ClientError:
        return False
    return True


def kill_in_mid_stream(
    server: RunningServer, pid: Callable[[], int], number: int = signal.SIGKILL
) -> tuple[list[str], float]:
    """Kill a process while a stream and a unary request run; what they ended with, and when."""
    errors: list[ClientError] = []
    victim = pid()

    def unary() -> None:
        with server.client(retries=0) as client:
            for _ in range(20):  # until the kill hits one of them
                client.complete("def f(", timeout_s=30, **LONG)

    def catch(work: Callable[[], None]) -> None:
        try:
            work()
        except ClientError as error:
            errors.append(error)

    thread = threading.Thread(target=catch, args=(unary,))
    with server.client(retries=0) as client:
        thread.start()
        time.sleep(0.2)
        with client.stream("def f(", timeout_s=30, **LONG) as stream:
            next(iter(stream))
            killed = time.monotonic()
            os.kill(victim, number)
            catch(lambda: [None for _ in stream] and None)
        thread.join(30)
    return [type(error).__name__ for error in errors], time.monotonic() - killed


def test_killed_engine_fails_what_runs_and_comes_back(fragile_server: RunningServer) -> None:
    ended, seconds = kill_in_mid_stream(fragile_server, lambda: fragile_server.engine_pid)

    assert ended == ["Unavailable", "Unavailable"], fragile_server.log()
    assert seconds < 3
    wait_until(lambda: works(fragile_server), 10)
    assert "reloading" not in fragile_server.log()  # the adapter alone brought it back


def test_engine_that_hangs_in_a_step_is_replaced(demo_repository: Path, tmp_path: Path) -> None:
    repository = Path(shutil.copytree(demo_repository, tmp_path / "repository"))
    with (repository / "gpt" / "config.pbtxt").open("a") as config:
        config.write('parameters { key: "step_timeout_ms" value { string_value: "3000" } }\n')
    running = start_server(repository, tmp_path / "log")
    try:
        pid = running.engine_pid
        ended, seconds = kill_in_mid_stream(running, lambda: pid, signal.SIGSTOP)
        assert ended == ["Unavailable", "Unavailable"], running.log()
        assert seconds > 2  # it had its time
        wait_until(lambda: works(running), 20)
        assert running.engine_pid != pid
    finally:
        assert running.stop() == 0


@pytest.mark.parametrize("model", ["preprocessing", "gpt", "postprocessing", "completion_stream"])
def test_killed_model_process_is_loaded_again(fragile_server: RunningServer, model: str) -> None:
    num_mended = fragile_server.log().count("serving again")
    os.kill(fragile_server.stubs[model], signal.SIGKILL)

    wait_until(lambda: f"reloading {model}" in fragile_server.log(), 10)
    wait_until(lambda: fragile_server.log().count("serving again") > num_mended, 20)
    assert works(fragile_server)


def test_killed_tritonserver_is_started_again(fragile_server: RunningServer) -> None:
    os.kill(fragile_server.triton_pid, signal.SIGKILL)

    wait_until(lambda: not works(fragile_server), 5)
    wait_until(lambda: works(fragile_server), 30)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_client_that_vanishes_frees_its_slot(server: RunningServer, protocol: str) -> None:
    engine = server.engine()
    try:
        engine.wait_ready(30)
        with server.client(protocol) as client:
            stream = client.stream("def f(", **LONG)
            next(iter(stream))
            assert engine.stats()["num_running"] == 1
        wait_until(lambda: engine.stats()["num_running"] == 0, 1.0)
    finally:
        engine.close()


def test_full_engine_refuses_with_unavailable(server: RunningServer) -> None:
    engine = server.engine()
    try:
        engine.wait_ready(30)
        settings = Settings(max_tokens=500, ignore_eos=True)

        def submit(number: int) -> list[int]:
            return [engine.submit([1, 2, 3], settings, lambda _: None) for _ in range(number)]

        # Not all at once: the queue holds 256 before the first step has filled the 32 slots.
        ids = submit(32)
        wait_until(lambda: engine.stats()["num_running"] == 32, 10)
        ids += submit(256)
        wait_until(lambda: engine.stats()["num_waiting"] == 256, 10)
        with server.client(retries=0) as client, pytest.raises(Unavailable, match="256 requests"):
            client.complete("def f(", max_tokens=2)
        for one in ids:
            engine.cancel(one)
        wait_until(lambda: engine.stats()["num_running"] == 0, 10)
    finally:
        engine.close()
    assert works(server)


def end(running: RunningServer, signals: list[int]) -> None:
    """Send signals to `nanotriton serve` and wait for its end."""
    for number in signals:
        running.process.send_signal(number)
    running.process.wait(60)


@pytest.mark.parametrize(
    "signals",
    [[signal.SIGTERM], [signal.SIGINT], [signal.SIGTERM] * 3],
    ids=["terminate", "Ctrl-C", "impatient"],
)
def test_stop_leaves_nothing_behind(
    demo_repository: Path, tmp_path: Path, signals: list[int]
) -> None:
    running = start_server(demo_repository, tmp_path / "log")
    pids = [running.triton_pid, *running.stubs.values(), running.engine_pid]
    regions = list(Path("/dev/shm").glob(f"nanotriton-{running.process.pid}-*"))

    end(running, signals)

    assert running.process.returncode == 0
    assert regions
    assert not list(Path("/dev/shm").glob(f"nanotriton-{running.process.pid}-*"))
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    with pytest.raises(Unavailable):
        running.client(retries=0).complete("a", timeout_s=2)


def test_killed_serve_takes_its_server_along(demo_repository: Path, tmp_path: Path) -> None:
    running = start_server(demo_repository, tmp_path / "log")
    pids = [running.triton_pid, *running.stubs.values(), running.engine_pid]

    end(running, [signal.SIGKILL])

    wait_until(lambda: not [pid for pid in pids if Path(f"/proc/{pid}").exists()], 30)
