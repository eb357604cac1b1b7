"""A suffix, and the ends of line, block and function, through both doors and both protocols."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from driving import Inbox
from running import ROOT, RunningServer

from clients import CompletionClient, InvalidRequest
from nanotriton.engine.blocks import find_end
from nanotriton.engine.request import Settings
from nanotriton.infill import Markers
from nanotriton.tokenizer import load_tokenizer

PREFIX, SUFFIX = "def mean(values):\n    total = ", "\n    return total / len(values)\n"
TOKENIZER = load_tokenizer(ROOT / "demo")
NUM_BOTH = len(TOKENIZER.encode(PREFIX)) + len(TOKENIZER.encode(SUFFIX))
Serve = Callable[[bool], RunningServer]


@pytest.fixture
def infill_server(serve_as: Serve) -> RunningServer:
    """A server whose model fills in the middle."""
    return serve_as(True)


def ways_to_ask(client: CompletionClient) -> list[Callable[..., object]]:
    """Both doors, each as one call."""
    return [client.complete, lambda *words, **settings: list(client.stream(*words, **settings))]


def ask_engine(server: RunningServer, prompt: list[int], settings: Settings) -> str:
    """What the engine itself makes of token ids."""
    inbox, engine = Inbox(), server.engine()
    engine.wait_ready(20)
    engine.submit(prompt, settings, inbox)
    text = inbox.wait().text
    engine.close()
    return text


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("temperature", [0.0, 0.8], ids=["greedy", "drawn"])
def test_middle_is_the_same_through_both_doors(
    infill_server: RunningServer, protocol: str, temperature: float
) -> None:
    settings = {"max_tokens": 24, "temperature": temperature, "seed": 3, "ignore_eos": True}
    with infill_server.client(protocol) as client:
        whole = client.complete(PREFIX, suffix=SUFFIX, **settings)
        with client.stream(PREFIX, suffix=SUFFIX, **settings) as stream:
            chunks = list(stream)

    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert chunks[-1].prompt_tokens == whole.prompt_tokens == NUM_BOTH + 3
    sides = TOKENIZER.encode(PREFIX), TOKENIZER.encode(SUFFIX)
    prompt = Markers.of(TOKENIZER.special_tokens, "spm").arrange(*sides)  # as the demo learned it
    assert ask_engine(infill_server, prompt, Settings(**settings)) == whole.text
    assert "<|" not in whole.text


def test_mark_in_a_text_is_plain_text(infill_server: RunningServer) -> None:
    marks = "<|fim_suffix|><|fim_middle|>"
    with infill_server.client() as client:
        answer = client.complete(marks, suffix=marks, max_tokens=1)

    assert answer.prompt_tokens == 2 * len(TOKENIZER.encode(marks)) + 3 > 20


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("prompt", [PREFIX, ""], ids=["both", "suffix alone"])
def test_sides_that_leave_no_room_are_refused_or_cut(
    infill_server: RunningServer, protocol: str, prompt: str
) -> None:
    long = "x = 1\n" * 200
    with infill_server.client(protocol) as client:
        for ask in ways_to_ask(client):
            with pytest.raises(InvalidRequest, match="has room for 502: shorten them"):
                ask(prompt, suffix=long, max_tokens=8)
        cut = client.complete(prompt, suffix=long, max_tokens=8, truncate="left")

    assert cut.prompt_tokens == 512 - 8 + 1


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("infill", [True, False], ids=["infill", "no infill"])
def test_empty_suffix_is_none(serve_as: Serve, infill: bool, protocol: str) -> None:
    with serve_as(infill).client(protocol) as client:
        plain = client.complete(PREFIX, max_tokens=8)

        assert client.complete(PREFIX, suffix="", max_tokens=8) == plain
        with client.stream(PREFIX, suffix="", max_tokens=8) as stream:
            assert "".join(chunk.text for chunk in stream) == plain.text
        for ask in ways_to_ask(client):
            with pytest.raises(InvalidRequest, match="text_input is empty"):
                ask("", suffix="")


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_model_without_infill_refuses_a_suffix_by_name(serve_as: Serve, protocol: str) -> None:
    with serve_as(False).client(protocol) as client:
        for ask in ways_to_ask(client):
            with pytest.raises(InvalidRequest, match=r"suffix is given, .*: leave it out, or"):
                ask(PREFIX, suffix=SUFFIX)


def test_each_row_of_a_batch_has_its_own_suffix(infill_server: RunningServer) -> None:
    suffixes = [SUFFIX, "", "\n"]
    client = triton_grpc.InferenceServerClient(f"localhost:{infill_server.grpc_port}")
    inputs = [
        triton_grpc.InferInput("text_input", [3, 1], "BYTES"),
        triton_grpc.InferInput("suffix", [3, 1], "BYTES"),
    ]
    for one, values in zip(inputs, ([PREFIX] * 3, suffixes), strict=True):
        one.set_data_from_numpy(np.array(values, np.object_).reshape(3, 1))

    batch = client.infer("completion", inputs).as_numpy("text_output")
    client.close()

    with infill_server.client() as one_by_one:
        alone = [one_by_one.complete(PREFIX, suffix=suffix).text for suffix in suffixes]
    assert [row[0].decode() for row in batch] == alone


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("unit", ["line", "block", "function"])
def test_unit_ends_the_text_in_both_doors(server: RunningServer, protocol: str, unit: str) -> None:
    prompt = "def read(path):\n    with open(path) as file:\n        text ="
    settings = {"max_tokens": 160, "ignore_eos": True, "temperature": 0.4, "seed": 5}
    with server.client(protocol) as client:
        whole = client.complete(prompt, **settings).text
        cut = client.complete(prompt, stop_at=unit, **settings)
        with client.stream(prompt, stop_at=unit, **settings) as stream:
            chunks = list(stream)

    end = whole.find("\n") if unit == "line" else find_end(prompt, whole, unit)
    assert end is not None, whole  # else this test would show nothing
    assert cut.text == whole[:end] == "".join(chunk.text for chunk in chunks)
    assert cut.finish_reason == chunks[-1].finish_reason == "stop"
    assert cut.completion_tokens == chunks[-1].completion_tokens < 160


def test_block_of_a_hole_is_that_of_the_prefix(infill_server: RunningServer) -> None:
    settings = {"max_tokens": 120, "ignore_eos": True, "temperature": 0.4, "seed": 1}
    with infill_server.client() as client:
        whole = client.complete(PREFIX, suffix=SUFFIX, **settings).text
        cut = client.complete(PREFIX, suffix=SUFFIX, stop_at="block", **settings).text

    assert cut == whole[: find_end(PREFIX, whole, "block")]


def test_command_line_fills_in(infill_server: RunningServer) -> None:
    command = [sys.executable, "-m", "clients", "complete", PREFIX, "--suffix", SUFFIX]
    flags = ["--stop-at", "line", "--url", f"localhost:{infill_server.grpc_port}"]
    done = subprocess.run(
        [*command, *flags], capture_output=True, text=True, cwd=ROOT, check=True, timeout=60
    )

    asked = {"suffix": SUFFIX, "stop_at": "line", "token_healing": True}
    with infill_server.client() as client:
        assert done.stdout == client.complete(PREFIX, **asked).text
