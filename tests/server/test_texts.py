"""Several texts of one prompt through a real server: both doors, both protocols."""

import json
import urllib.request
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from running import RunningServer, wait_until

from clients import InvalidRequest

PROMPT = "def fib(n):"
SETTINGS: dict[str, Any] = {"max_tokens": 12, "temperature": 0.9, "seed": 7}


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_texts_of_a_stream_are_those_of_its_unary_twin(
    server: RunningServer, protocol: str
) -> None:
    with server.client(protocol) as client:
        whole = client.complete(PROMPT, n=3, logprobs=0, **SETTINGS)
        with client.stream(PROMPT, n=3, logprobs=0, **SETTINGS) as stream:
            chunks = list(stream)
        alone = client.complete(PROMPT, **SETTINGS)

    streamed = ["".join(one.text for one in chunks if one.index == index) for index in range(3)]
    assert tuple(streamed) == whole.texts
    assert len(set(whole.texts)) == 3
    assert whole.text == alone.text
    assert whole.completion_tokens == chunks[-1].completion_tokens == 36
    assert [len(one.logprobs) for one in (whole, *whole.others)] == [12] * 3
    assert sorted(one.index for one in chunks if one.finish_reason) == [0, 1, 2]


def test_best_texts_are_the_likeliest(server: RunningServer) -> None:
    with server.client() as client:
        every = client.complete(PROMPT, n=6, logprobs=0, **SETTINGS)
        best = client.complete(PROMPT, n=2, best_of=6, **SETTINGS)

    means = [np.mean([t.logprob for t in one.logprobs]) for one in (every, *every.others)]
    order = np.argsort(means)[::-1]
    assert list(best.texts) == [every.texts[index] for index in order[:2]]
    assert best.logprobs == ()
    assert best.completion_tokens == 72


def test_stream_can_not_choose(server: RunningServer) -> None:
    with (
        server.client() as client,
        pytest.raises(InvalidRequest, match=r"best_of is 3, n is 2: a stream can't choose before"),
        client.stream(PROMPT, n=2, best_of=3, **SETTINGS) as stream,
    ):
        list(stream)


@pytest.mark.parametrize("model", ["completion", "completion_stream"])
def test_generate_answers_lists(server: RunningServer, model: str) -> None:
    url = f"http://localhost:{server.http_port}/v2/models/{model}/generate"
    body = {"text_input": PROMPT, "n": 2, "best_of": 3, **SETTINGS}
    body |= {} if model == "completion" else {"stream": False}
    with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=30) as response:
        answer = json.load(response)

    assert len(set(answer["text_output"])) == 2
    assert answer["finish_reason"] == ["length", "length"]
    assert answer["completion_tokens"] == 36


def test_rows_of_a_batch_may_want_different_numbers_of_texts(server: RunningServer) -> None:
    client = triton_grpc.InferenceServerClient(f"localhost:{server.grpc_port}")
    columns = {
        "text_input": ("BYTES", np.array([[b"def a("], [b"import "]], np.object_)),
        "n": ("INT32", np.array([[1], [3]], np.int32)),
        "max_tokens": ("INT32", np.array([[4], [6]], np.int32)),
    }
    inputs = []
    for name, (datatype, values) in columns.items():
        inputs.append(triton_grpc.InferInput(name, values.shape, datatype))
        inputs[-1].set_data_from_numpy(values)

    answer = client.infer("completion", inputs)
    client.close()

    texts, reasons = answer.as_numpy("text_output"), answer.as_numpy("finish_reason")
    assert texts.shape == (2, 3)
    assert texts[0, 1] == texts[0, 2] == reasons[0, 2] == b""
    assert texts[1, 0] == texts[1, 1] == texts[1, 2] != b""
    assert answer.as_numpy("completion_tokens").tolist() == [[4], [18]]


def test_client_that_leaves_frees_the_slots_of_all_texts(server: RunningServer) -> None:
    engine = server.engine()
    engine.wait_ready(10)
    with server.client() as client:
        with client.stream(PROMPT, n=16, max_tokens=400, temperature=1.0, ignore_eos=True) as one:
            next(one)
            assert engine.stats()["num_running"] == 1
        wait_until(lambda: engine.stats()["num_free_slots"] == engine.stats()["num_slots"], 5)
    engine.close()
