"""The client library and its command line against a real gateway."""

import asyncio
import json
from pathlib import Path

import pytest
from running import RunningServer

from clients import AsyncCompletionClient, CompletionClient, InvalidRequest
from clients.__main__ import main
from tests.gateway.gateways import RunningGateway

PROMPT = "def area(r):\n    return "
GREEDY = {"temperature": 0.0, "max_tokens": 12}


@pytest.fixture
def client(gateway: RunningGateway) -> CompletionClient:
    return CompletionClient(gateway.url, "gateway")


def test_answers_are_those_of_triton(client: CompletionClient, server: RunningServer) -> None:
    with client, server.client() as direct:
        assert client.complete(PROMPT, **GREEDY) == direct.complete(PROMPT, **GREEDY)
        with client.stream(PROMPT, **GREEDY) as stream:
            chunks = list(stream)
        whole = direct.complete(PROMPT, **GREEDY)
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert (chunks[-1].prompt_tokens, chunks[-1].completion_tokens) == (
        *(whole.prompt_tokens, whole.completion_tokens),
    )


def test_every_setting_is_taken(client: CompletionClient) -> None:
    with client:
        answer = client.complete(
            PROMPT,
            **{"max_tokens": 5, "temperature": 0.5, "top_k": 5, "top_p": 0.9, "min_p": 0.01},
            **{"repetition_penalty": 1.1, "frequency_penalty": 0.5, "presence_penalty": 0.5},
            **{"logit_bias": {5: -1.5}, "seed": 3, "n": 2, "best_of": 3, "stop": ["\n\n"]},
            **{"stop_at": "block", "truncate": "left", "token_healing": False},
            **{"logprobs": 2, "priority": 0, "timeout_ms": 9000, "user": "me"},
        )
    assert len(answer.texts) == 2
    assert answer.prompt_tokens > 0


def test_logprobs_cross_the_gateway(client: CompletionClient, server: RunningServer) -> None:
    with client, server.client() as direct:
        here = client.complete(PROMPT, logprobs=2, **GREEDY).logprobs
        there = direct.complete(PROMPT, logprobs=2, **GREEDY).logprobs
    assert [(one.text, one.logprob) for one in here] == [
        (one.text, pytest.approx(one.logprob)) for one in there
    ]


def test_refusal_is_the_gateways_sentence(client: CompletionClient) -> None:
    with client, pytest.raises(InvalidRequest, match="temperature"):
        client.complete(PROMPT, temperature=-1.0)


def test_asyncio_asks_too(gateway: RunningGateway) -> None:
    async def ask() -> list[str]:
        async with AsyncCompletionClient(gateway.url, "gateway") as client:
            assert await client.is_ready()
            answers = await asyncio.gather(*(client.complete(PROMPT, **GREEDY) for _ in range(4)))
            assert await client.models() == ("nanotriton",)
            return [answer.text for answer in answers]

    assert len(set(asyncio.run(ask()))) == 1


def test_commands_work_against_it(
    gateway: RunningGateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    door = ["--protocol", "gateway", "--url", gateway.url]
    file = tmp_path / "area.py"
    file.write_text(PROMPT + "\n\nprint(area(2))\n")
    assert main(["ready", *door]) == 0
    assert main(["complete", PROMPT, "--stream", "--max-tokens", "4", *door]) == 0
    words = ["--line", "2", "--max-tokens", "6", "--temperature", "0", "--in-place"]
    assert main(["fim", str(file), *words, *door]) == 0
    assert file.read_text().startswith(PROMPT)
    assert file.read_text().endswith("\n\nprint(area(2))\n")
    capsys.readouterr()
    assert main(["models", *door]) == 0
    assert capsys.readouterr().out == "nanotriton\n"
    assert main(["bench", "--requests", "4", "--max-tokens", "4", "--json", *door]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["requests"], told["errors"]) == (4, {})
