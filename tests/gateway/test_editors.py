"""What editors and curl send, as they send it."""

import json
import shutil
import subprocess

import pytest

from tests.gateway.gateways import RunningGateway, error_of, events

# https://github.com/ggml-org/llama.vscode, with an OpenAI endpoint
LLAMA_VSCODE = {
    "model": "",
    "prompt": "def add(a, b):\n    ",
    "max_tokens": 64,
    "temperature": 0.1,
    "top_p": 0.99,
    "stream": False,
}
# https://github.com/continuedev/continue, core/llm/llms/OpenAI.ts, a completion with a suffix
CONTINUE = {
    "model": "nanotriton",
    "prompt": "def add(a, b):\n    return ",
    "suffix": "\n\nprint(add(1, 2))\n",
    "max_tokens": 32,
    "temperature": 0.01,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "stop": ["\n\n", "```"],
    "stream": True,
}


# The same extension's usual way, and what it sends to warm up.
INFILL = {
    "input_prefix": "def add(a, b):\n",
    "input_suffix": "\n\nprint(add(1, 2))\n",
    "input_extra": [{"text": "x = 1", "filename": "a.py"}],
    "prompt": "    return ",
    "n_predict": 16,
    "n_indent": 4,
    "top_k": 40,
    "top_p": 0.99,
    "stream": False,
    "samplers": ["top_k", "top_p", "infill"],
    "cache_prompt": True,
    "t_max_prompt_ms": 500,
    "t_max_predict_ms": 2500,
}
WARM_UP = {
    "input_prefix": "",
    "input_suffix": "",
    "input_extra": [],
    "prompt": "",
    "n_predict": 0,
    "samplers": [],
    "cache_prompt": True,
    "t_max_prompt_ms": 500,
    "t_max_predict_ms": 1,
}


def test_short_form_is_the_engines_own_defaults(gateway: RunningGateway) -> None:
    with gateway.http() as http:
        short = http.post("/complete", json={"prompt": "def fib(n):"}).json()
        same = http.post("/v1/generate", json={"prompt": "def fib(n):"}).json()
    assert short["text"] == same["text"]
    assert short["usage"]["completion_tokens"] == 64 or short["finish_reason"] == "stop"
    assert short["id"] != same["id"]


def test_short_form_streams(gateway: RunningGateway) -> None:
    body = {"prompt": "def fib(n):", "n": 2, "max_tokens": 5, "temperature": 1, "seed": 1}
    with gateway.http() as http:
        whole = http.post("/v1/generate", json=body).json()
        told = events(http.post("/v1/generate/stream", json=body))
    texts = ["".join(one["text"] for one in told if one["index"] == index) for index in (0, 1)]
    assert texts == [whole["text"], whole["others"][0]["text"]]
    assert told[-1]["usage"] == whole["usage"]


def test_short_form_tells_logprobs(gateway: RunningGateway) -> None:
    with gateway.http() as http:
        body = {"prompt": "def fib(n):", "max_tokens": 3, "logprobs": 1}
        told = http.post("/complete", json=body).json()
    assert "".join(one["text"] for one in told["logprobs"]) == told["text"]
    assert all(one["top"][0]["logprob"] == one["logprob"] for one in told["logprobs"])


@pytest.mark.parametrize("body", [LLAMA_VSCODE, CONTINUE], ids=["llama.vscode", "Continue"])
def test_editors_body_is_answered(gateway: RunningGateway, body: dict[str, object]) -> None:
    with gateway.http() as http:
        response = http.post("/v1/completions", json=body)
    assert response.status_code == 200, response.text


def test_infill_is_answered_as_by_llama_cpp(gateway: RunningGateway) -> None:
    with gateway.http() as http:
        told = http.post("/infill", json=INFILL).json()
    assert told["content"].strip()
    assert 0 < told["tokens_predicted"] <= 16
    assert told["stop"] is True


def test_infill_that_warms_up_asks_for_nothing(gateway: RunningGateway) -> None:
    with gateway.http() as http:
        response = http.post("/infill", json=WARM_UP)
    assert response.status_code == 200
    assert response.json()["content"] == ""


def test_infill_tells_the_fields_that_llama_vim_wants(gateway: RunningGateway) -> None:
    fields = ["content", "timings/prompt_n", "timings/predicted_per_second"]
    with gateway.http() as http:
        told = http.post("/infill", json={**INFILL, "response_fields": fields}).json()
    assert told.keys() == {"content", "timings/prompt_n"}


@pytest.mark.parametrize(
    "option", [{"lora": []}, {"stream": True}, {"samplers": ["mirostat"]}, {"cache_prompt": False}]
)
def test_infill_refuses_what_it_has_not(gateway: RunningGateway, option: dict[str, object]) -> None:
    with gateway.http() as http:
        response = http.post("/infill", json={**INFILL, **option})
    assert response.status_code == 400
    assert error_of(response)["param"] in option


def test_curl_gets_a_stream(gateway: RunningGateway) -> None:
    curl = shutil.which("curl")
    assert curl, "curl is missing: apt-get install curl"
    body = json.dumps({"prompt": "def f(", "max_tokens": 3, "stream": True})
    words = ["-sN", f"{gateway.url}/v1/completions", "-d", body]
    done = subprocess.run(
        [curl, *words, "-H", "Content-Type: application/json"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.endswith("data: [DONE]\n\n")
