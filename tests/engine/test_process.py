"""The engine's process by itself: its first line, its refusals, its end."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
import zmq
from driving import Inbox, engine_service
from running import wait_until

from nanotriton.contract import MANIFEST_FILE, RANKS_FILE, TOKENIZER_FILE
from nanotriton.engine.client import EngineClient
from nanotriton.engine.process import build_engine, build_parser, main
from nanotriton.engine.protocol import pack, unpack
from nanotriton.engine.request import Settings
from nanotriton.errors import RunnerError
from nanotriton.manifest import Manifest, newest_version

LONG = Settings(max_tokens=400, ignore_eos=True)
MODULE = [sys.executable, "-m", "nanotriton.engine.process"]


@contextmanager
def running_process(folder, socket):
    """A process that said it is ready."""
    words = [*MODULE, str(folder), "--socket", str(socket), "--threads", "1"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert json.loads(process.stdout.readline())["ready"] == process.pid
            yield process
        finally:
            process.kill()


@pytest.fixture
def _interrupts():
    """Puts back what `main` changes for its whole process."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.fixture
def other_tokenizer(engine_folder, tmp_path):
    """A version whose model has one token more than its tokenizer."""
    for name in (MANIFEST_FILE, RANKS_FILE, TOKENIZER_FILE):
        shutil.copy(engine_folder / name, tmp_path)
    manifest = Manifest.load(tmp_path)
    dataclasses.replace(manifest, vocab_size=manifest.vocab_size + 1).save(tmp_path)
    return tmp_path


def test_closed_stdin_ends_the_process_and_its_socket(engine_folder, tmp_path):
    socket = tmp_path / "s"
    with running_process(engine_folder, socket) as process:
        assert socket.is_socket()
        process.stdin.close()
        assert process.wait(5) == 0
    assert not socket.exists()


def test_sigterm_ends_the_process_and_its_socket(engine_folder, tmp_path):
    socket = tmp_path / "s"
    with running_process(engine_folder, socket) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
    assert not socket.exists()


def test_interrupt_is_left_to_the_server(engine_folder, tmp_path):
    with running_process(engine_folder, tmp_path / "s") as process:
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)


def test_socket_that_a_killed_process_left_is_taken_over(engine_folder, tmp_path):
    socket = tmp_path / "s"
    with running_process(engine_folder, socket) as killed:
        killed.kill()
    assert socket.is_socket()
    with running_process(engine_folder, socket):
        assert socket.is_socket()


@pytest.mark.usefixtures("_interrupts")
@pytest.mark.parametrize("name", ["max-slots", "max-waiting", "prefill-chunk", "threads"])
def test_limit_below_one_is_refused_in_one_line(engine_folder, tmp_path, capsys, name):
    assert main([str(engine_folder), "--socket", str(tmp_path / "s"), f"--{name}", "0"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"error": f"{name.replace('-', '_')} is 0, the least is 1"}


@pytest.mark.parametrize(
    ("words", "reused", "drafted"),
    [
        ((), True, True),
        (("--prefix-cache", "off"), False, True),
        (("--speculation", "off"), True, False),
        (("--isolate-users", "on"), False, True),
    ],
    ids=["default", "no-cache", "no-speculation", "isolated"],
)
def test_switches_reach_the_engine(start_service, words, reused, drafted):
    client = start_service(*words).client()
    for _ in range(2):
        inbox = Inbox()
        client.submit([5, 6, 7, 8, 9] * 8, Settings(max_tokens=24, ignore_eos=True), inbox)
        inbox.wait()
    stats = client.stats()
    assert (stats["prefix_hit_tokens"] > 0, stats["num_drafted"] > 0) == (reused, drafted)


@pytest.mark.parametrize(
    ("words", "in_pieces", "least", "most"),
    [
        (("--stream-interval-ms", "60000"), True, 2, 2),
        (("--stream-interval-ms", "0", "--speculation", "off"), True, 100, 400),
        ((), False, 1, 1),
    ],
    ids=["first-and-rest", "every-step", "whole"],
)
def test_answer_comes_in_as_many_pieces_as_asked(start_service, words, in_pieces, least, most):
    service = start_service(*words)
    frames = []
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.rcvtimeo = 10_000
        dealer.connect(f"ipc://{service.path}")
        asked = {"id": 1, "prompt": [70, 71], "settings": LONG.to_message()}
        dealer.send(pack([{"op": "submit", "in_pieces": in_pieces, **asked}]))
        while not frames or frames[-1]["usage"] is None:
            frames += unpack(dealer.recv())
    assert least <= len(frames) <= most
    assert sum(len(one["tokens"]) for one in frames) == 400


def test_whole_answer_that_nobody_waits_for_ends(artifact_of):
    words = ("--speculation", "off", "--max-slots", "2")
    with engine_service(artifact_of("fp32"), *words) as service:
        watcher, leaving = service.client(), EngineClient(service.path)
        leaving.wait_ready(10)
        for _ in range(240):
            settings = Settings(max_tokens=60, ignore_eos=True)
            leaving.submit([70, 71], settings, Inbox(), in_pieces=False)
        wait_until(lambda: watcher.stats()["num_running"] > 0, 10)
        leaving.close()
        wait_until(lambda: watcher.stats()["num_running"] == 0, 10)
        samples = {(name, str(labels)): n for name, labels, n in watcher.stats()["samples"]}
    assert samples["requests_total", "[['outcome', 'cancelled']]"] > 0


def test_step_timeout_shorter_than_its_signs_of_life_is_refused(engine_folder):
    words = [str(engine_folder), "--socket", "unused", "--step-timeout-ms", "100"]
    with pytest.raises(ValueError, match="step_timeout_ms is 100, the least is 2000"):
        build_engine(build_parser().parse_args(words))


@pytest.mark.usefixtures("_interrupts")
def test_cache_that_holds_no_slot_is_refused_in_one_line(engine_folder, tmp_path, capsys):
    words = [str(engine_folder), "--socket", str(tmp_path / "s"), "--kv-cache-bytes", "1000000"]
    assert main(words) == 1
    assert (
        "kv_cache_bytes is 1000000, one KV slot of this model takes"
        in (json.loads(capsys.readouterr().out)["error"])
    )


@pytest.mark.usefixtures("_interrupts")
def test_what_serve_was_told_outranks_the_repository(engine_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("NANOTRITON_ENGINE", "threads=1 kv_cache_bytes=2000000")
    words = [str(engine_folder), "--socket", str(tmp_path / "s"), "--kv-cache-bytes", "1000000"]
    assert main(words) == 1
    assert "kv_cache_bytes is 2000000" in json.loads(capsys.readouterr().out)["error"]


def test_cache_bytes_decide_how_many_slots_there_are(engine_folder):
    words = [str(engine_folder), "--socket", "unused", "--threads", "1"]
    one = build_engine(build_parser().parse_args([*words, "--max-slots", "1"])).stats()
    budget = str(3 * one["kv_cache_bytes"] + 1)
    three = build_engine(build_parser().parse_args([*words, "--kv-cache-bytes", budget])).stats()

    assert three["num_slots"] == 3
    assert three["kv_cache_bytes"] == 3 * one["kv_cache_bytes"]


@pytest.mark.usefixtures("_interrupts")
def test_negative_number_of_decode_rows_is_refused_in_one_line(engine_folder, tmp_path, capsys):
    words = [str(engine_folder), "--socket", str(tmp_path / "s"), "--max-decode-rows", "-1"]
    assert main(words) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"error": "max_decode_rows is -1, the least is 0"}


@pytest.mark.parametrize(
    "words",
    [("--deterministic", "on"), ("--max-decode-rows", "0")],
    ids=" ".join,
)
def test_pinned_engine_needs_no_second_graph(auto_repository, tmp_path, words):
    folder = shutil.copytree(newest_version(auto_repository), tmp_path / "copy")
    (folder / "model.int4.onnx").unlink()
    given = [str(folder), "--socket", "unused", "--threads", "1"]
    assert build_engine(build_parser().parse_args([*given, *words]))
    with pytest.raises(RunnerError, match=r"holds no model\.int4\.onnx"):
        build_engine(build_parser().parse_args(given))


@pytest.mark.usefixtures("_interrupts")
def test_tokenizer_that_does_not_fit_is_refused_in_one_line(other_tokenizer, tmp_path, capsys):
    assert main([str(other_tokenizer), "--socket", str(tmp_path / "s")]) == 1
    num_tokens = Manifest.load(other_tokenizer).vocab_size - 1
    assert (
        f"holds a tokenizer of {num_tokens} tokens and a model of {num_tokens + 1}: export"
        in (json.loads(capsys.readouterr().out)["error"])
    )


MALFORMED = {
    "no msgpack": b"\xc1",
    "cut short": pack([{"op": "stats", "id": 1}])[:-1],
    "a number": b"\x07",
    "no map": b"\x91\x07",
    "no id": pack([{"op": "cancel"}]),
    "no prompt": pack([{"op": "submit", "id": 1, "settings": {}}]),
    "prompt of texts": pack([{"op": "submit", "id": 1, "settings": {}, "prompt": ["a"]}]),
    "unknown setting": pack([{"op": "submit", "id": 1, "settings": {"x": 1}, "prompt": [1]}]),
}


def test_malformed_frames_are_ignored(engine_folder, tmp_path):
    path = tmp_path / "s"
    with running_process(engine_folder, path) as process, zmq.Context() as context:
        with context.socket(zmq.DEALER) as stranger:
            stranger.linger = 0
            stranger.connect(f"ipc://{path}")
            for frame in MALFORMED.values():
                stranger.send(frame)
            stranger.send(pack([{"op": "stats", "id": 9}]))
            answers = []
            while not answers or answers[-1]["op"] != "stats":
                assert stranger.poll(10_000), process.poll()
                answers += unpack(stranger.recv())
        assert process.poll() is None
    assert answers[-1]["stats"]["num_running"] == 0
