"""The supervisor with the real engine process."""

import os
import signal
import time

import pytest
from driving import Inbox, engine_service, processes_with
from running import wait_until

from nanotriton.engine.request import Settings
from nanotriton.engine.supervisor import EngineSupervisor
from nanotriton.errors import ServerError, Unavailable


def test_stop_leaves_neither_process_nor_socket(start_service):
    service = start_service()
    assert len(processes_with(str(service.path))) == 1
    service.supervisor.stop()
    assert not processes_with(str(service.path))
    assert not service.path.exists()
    assert service.log == []


@pytest.mark.parametrize("delay_s", [0.0, 0.15, 0.4, 1.0])
def test_stop_during_a_restart_leaves_no_process(start_service, delay_s):
    service = start_service()
    (pid,) = processes_with(str(service.path))
    os.kill(pid, signal.SIGKILL)
    time.sleep(delay_s)  # before, while and after the next one starts
    service.supervisor.stop()
    time.sleep(0.2)
    assert not processes_with(str(service.path))


def pid_of(client):
    """The engine's process as it says itself; None while the connection is breaking."""
    try:
        return client.stats()["pid"]
    except Unavailable:
        return None


def test_engine_that_dies_again_is_started_again(start_service):
    service = start_service()
    for num_deaths in (1, 2):
        client = service.client()
        pid = client.stats()["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda seen=num_deaths: len(service.log) == seen, 5)
        wait_until(lambda old=pid, asked=client: pid_of(asked) not in (None, old), 20)


def test_stopped_engine_is_killed_and_its_clients_told(start_service):
    """SIGSTOP looks from outside like a step that never ends."""
    service = start_service("--step-timeout-ms", "2000")
    client, inbox = service.client(), Inbox()
    client.submit([5, 6, 7], Settings(max_tokens=400, ignore_eos=True), inbox)
    inbox.wait_started()
    pid = client.stats()["pid"]
    os.kill(pid, signal.SIGSTOP)
    assert isinstance(inbox.wait(10).error, Unavailable)
    wait_until(lambda: pid_of(client) not in (None, pid), 20)
    assert service.supervisor.restarts == {"wedged": 1, "died": 0}
    assert service.log == [
        "the engine process ended no step in 2 s and was killed; starting it again"
    ]


def test_engine_that_idles_is_not_taken_for_a_hang(start_service):
    service = start_service("--step-timeout-ms", "2000")
    time.sleep(3)
    assert service.log == []


def test_stop_ends_an_engine_that_hangs(start_service):
    service = start_service()
    (pid,) = processes_with(str(service.path))
    os.kill(pid, signal.SIGSTOP)
    service.supervisor.stop()
    assert not processes_with(str(service.path))


def test_stop_can_be_called_twice(start_service):
    service = start_service()
    service.supervisor.stop()
    service.supervisor.stop()
    assert not processes_with(str(service.path))


def test_folder_without_a_manifest_is_refused_in_one_line(tmp_path):
    folder = tmp_path / "repository" / "gpt" / "1"
    folder.mkdir(parents=True)
    supervisor = EngineSupervisor([str(folder), "--socket", str(tmp_path / "s")], print)
    with pytest.raises(ServerError) as refusal:
        supervisor.start()
    assert str(refusal.value) == (
        f"the engine did not start: {folder} holds no manifest.json: run `python -m export all "
        f"CHECKPOINT --repository {tmp_path / 'repository'}` first"
    )
    assert not processes_with(str(folder))


def test_process_that_says_nothing_refers_to_the_log(engine_folder, tmp_path, capfd):
    words = [str(engine_folder), "--socket", str(tmp_path / "s"), "--max-slots", "many"]
    with pytest.raises(ServerError, match="the engine did not start: see the log"):
        EngineSupervisor(words, print).start()
    assert "argument --max-slots: invalid int value: 'many'" in capfd.readouterr().err


def test_engine_that_cannot_come_back_is_tried_with_growing_pauses(engine_folder, tmp_path):
    folder = tmp_path / "1"
    folder.symlink_to(engine_folder)
    with engine_service(folder) as service:
        folder.unlink()
        os.kill(service.client().stats()["pid"], signal.SIGKILL)
        wait_until(lambda: len(service.log) >= 3, 20)
    assert [line.rsplit("; ")[-1] for line in service.log[:3]] == [
        "starting it again",
        "the next try is in 0.2 s",
        "the next try is in 0.4 s",
    ]
