"""The main job through a real server: both doors, both protocols, with the tools people have."""

import json
import shutil
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from running import ROOT, RunningServer, export_demo, start_server

from clients.__main__ import main

PROMPT = "def fib(n):"


def generate(server: RunningServer, model: str, **body: object) -> dict[str, object]:
    """POST to Triton's generate extension, as the README's curl line does."""
    url = f"http://localhost:{server.http_port}/v2/models/{model}/generate"
    with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=30) as response:
        answer: dict[str, object] = json.load(response)
    return answer


def test_generate_answers_text_output(server: RunningServer) -> None:
    answer = generate(server, "completion", text_input=PROMPT, max_tokens=32)

    assert answer["text_output"]
    assert answer["finish_reason"] in ("length", "stop")
    assert answer["completion_tokens"] <= 32  # type: ignore[operator]


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_stream_equals_its_unary_twin(server: RunningServer, protocol: str) -> None:
    settings = {"max_tokens": 300, "ignore_eos": True, "temperature": 0.7, "seed": 7}
    with server.client(protocol) as client:
        whole = client.complete(PROMPT, **settings)
        with client.stream(PROMPT, **settings) as stream:
            chunks = list(stream)

    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert len(chunks) > 2
    assert chunks[-1].finish_reason == whole.finish_reason
    assert chunks[-1].completion_tokens == whole.completion_tokens


def test_stream_door_answers_generate_with_one_response(server: RunningServer) -> None:
    one = generate(server, "completion_stream", text_input=PROMPT, max_tokens=16, stream=False)
    twin = generate(server, "completion", text_input=PROMPT, max_tokens=16)

    assert one["text_output"] == twin["text_output"]


def test_stop_string_ends_the_text_and_never_shows(server: RunningServer) -> None:
    with server.client() as client:
        whole = client.complete(PROMPT, max_tokens=64, ignore_eos=True).text
        stop = whole[10:14]
        cut = client.complete(PROMPT, max_tokens=64, ignore_eos=True, stop=["\0never", stop])
        with client.stream(PROMPT, max_tokens=64, ignore_eos=True, stop=[stop]) as stream:
            streamed = "".join(chunk.text for chunk in stream)

    assert cut.text == whole[: whole.index(stop)] == streamed
    assert cut.finish_reason == "stop"


@pytest.mark.parametrize("door", ["completion", "completion_stream"])
def test_time_that_is_up_ends_the_text_as_far_as_it_came(server: RunningServer, door: str) -> None:
    settings = {"max_tokens": 500, "ignore_eos": True, "timeout_ms": 40, "stream": False}
    if door == "completion":
        del settings["stream"]
    answer = generate(server, door, text_input=PROMPT, priority=2, user="somebody", **settings)

    assert answer["finish_reason"] == "timeout"
    assert answer["completion_tokens"] < 500


def test_prompt_that_grew_is_not_computed_again(server: RunningServer) -> None:
    engine = server.engine()
    engine.wait_ready(10)
    prompt = "def grown(first, second):\n    return " * 5
    with server.client() as client:
        client.complete(prompt, max_tokens=4)
        before = engine.stats()
        client.complete(prompt + "first + ", max_tokens=4)
    after = engine.stats()
    engine.close()

    looked_up, found = (
        after[name] - before[name] for name in ("prefix_lookup_tokens", "prefix_hit_tokens")
    )
    assert 0.8 * looked_up < found < looked_up


def test_truncate_left_answers_what_the_prompts_end_would(server: RunningServer) -> None:
    long_prompt = "value = compute(value)\n" * 500 + PROMPT
    with server.client() as client:
        cut = client.complete(long_prompt, max_tokens=8, truncate="left")

    assert 512 - 8 + 1 - 512 // 8 < cut.prompt_tokens <= 512 - 8 + 1
    assert cut.completion_tokens == 8


def test_generation_past_the_context_ends_with_length(server: RunningServer) -> None:
    prompt = "x = 1\n" * 120
    with server.client() as client:
        answer = client.complete(prompt, max_tokens=512, ignore_eos=True)

    assert answer.finish_reason == "length"
    assert answer.prompt_tokens + answer.completion_tokens == 512 + 1


@pytest.mark.parametrize("library", [triton_grpc, triton_http], ids=["grpc", "http"])
def test_tritonclient_sends_a_batch(server: RunningServer, library: object) -> None:
    port = server.grpc_port if library is triton_grpc else server.http_port
    prompts = np.array([["def a("], ["class Parser:\n    def "], ["import"]], np.object_)
    client = library.InferenceServerClient(f"localhost:{port}")  # type: ignore[attr-defined]
    text = library.InferInput("text_input", [3, 1], "BYTES")  # type: ignore[attr-defined]
    text.set_data_from_numpy(prompts)
    limit = library.InferInput("max_tokens", [3, 1], "INT32")  # type: ignore[attr-defined]
    limit.set_data_from_numpy(np.full((3, 1), 8, np.int32))

    batch = client.infer("completion", [text, limit]).as_numpy("text_output")
    client.close()

    with server.client() as one_by_one:
        alone = [one_by_one.complete(row[0], max_tokens=8).text for row in prompts]
    assert [row[0].decode() for row in batch] == alone


def test_command_line_streams_to_stdout(server: RunningServer) -> None:
    command = [sys.executable, "-m", "clients", "complete", PROMPT, "--stream"]
    flags = ["--max-tokens", "12", "--url", f"localhost:{server.grpc_port}"]
    done = subprocess.run(
        [*command, *flags], capture_output=True, text=True, cwd=ROOT, check=True, timeout=60
    )

    with server.client() as client:
        text = client.complete(PROMPT, max_tokens=12, token_healing=True).text
    assert done.stdout.rstrip("\n") == text.rstrip("\n")


def test_command_line_says_whether_the_server_is_ready(server: RunningServer) -> None:
    assert main(["ready", "--url", f"localhost:{server.grpc_port}"]) == 0
    assert main(["ready", "--url", "localhost:1", "--timeout-s", "2"]) == 1


def test_int8_model_is_served(tmp_path: Path) -> None:
    running = start_server(export_demo(tmp_path, "int8"), tmp_path / "log")
    try:
        with running.client() as client:
            assert client.complete(PROMPT, max_tokens=16).completion_tokens == 16
    finally:
        assert running.stop() == 0


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_logprobs_are_told_of_every_token_by_both_doors(
    server: RunningServer, protocol: str
) -> None:
    with server.client(protocol) as client:
        plain = client.complete("def f(", max_tokens=6, ignore_eos=True)
        whole = client.complete("def f(", max_tokens=6, ignore_eos=True, logprobs=2)
        with client.stream("def f(", max_tokens=6, ignore_eos=True, logprobs=2) as stream:
            chunks = list(stream)

    assert plain.logprobs == ()
    assert len(whole.logprobs) == 6
    assert whole.text == plain.text
    assert "".join(one.text for one in whole.logprobs) == whole.text
    assert all(one.top[0].id == one.id for one in whole.logprobs)  # greedy takes the likeliest
    assert all(one.top[0].logprob >= one.top[1].logprob for one in whole.logprobs)
    streamed = [one for chunk in chunks for one in chunk.logprobs]
    assert [one.id for one in streamed] == [one.id for one in whole.logprobs]
    assert [one.logprob for one in streamed] == pytest.approx(
        [one.logprob for one in whole.logprobs], abs=1e-3
    )


def engine_words(repository: Path) -> list[str]:
    """The command line of the engine that serves a repository."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # a process that has ended since
            lines.append(path.read_bytes().decode().split("\0"))
    (found,) = (
        words
        for words in lines
        if "nanotriton.engine.process" in words and str(repository / "gpt" / "1") in words
    )
    return found


@pytest.mark.parametrize("deterministic", ["off", "on"])
def test_model_of_two_graphs_is_served(
    auto_repository: Path, tmp_path: Path, deterministic: str
) -> None:
    repository = Path(shutil.copytree(auto_repository, tmp_path / "repository"))
    config = repository / "gpt" / "config.pbtxt"
    switch = 'key: "deterministic" value { string_value: "%s" }'
    assert switch % "off" in config.read_text()
    config.write_text(config.read_text().replace(switch % "off", switch % deterministic))
    running = start_server(repository, tmp_path / "log")
    try:
        words = engine_words(repository)
        assert words[words.index("--deterministic") + 1] == deterministic
        with running.client() as client:
            text = client.complete(PROMPT, max_tokens=16).text
            with client.stream(PROMPT, max_tokens=16) as stream:
                assert "".join(chunk.text for chunk in stream) == text
    finally:
        assert running.stop() == 0
