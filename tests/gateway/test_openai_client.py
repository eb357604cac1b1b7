"""OpenAI's own Python client works unchanged, sync and async, against a real Triton."""

import asyncio

import openai
import pytest
from running import RunningServer

from tests.gateway.gateways import RunningGateway

PROMPT = "def fib(n):"


def test_text_is_what_the_model_says(gateway: RunningGateway, server: RunningServer) -> None:
    with server.client() as direct:
        expected = direct.complete(PROMPT, max_tokens=12)
    with gateway.openai() as client:
        answer = client.completions.create(
            model="nanotriton", prompt=PROMPT, max_tokens=12, temperature=0
        )

    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert answer.choices[0].text == expected.text
    assert answer.choices[0].finish_reason == expected.finish_reason
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == expected.prompt_tokens
    assert answer.usage.completion_tokens == expected.completion_tokens
    assert answer.usage.total_tokens == expected.prompt_tokens + expected.completion_tokens


def test_stream_is_the_whole_text_in_pieces(gateway: RunningGateway) -> None:
    with gateway.openai() as client:
        prompt = f"{PROMPT}  # in pieces"  # which no test before asked, so no cache answers
        asked = {"model": "nanotriton", "prompt": prompt, "max_tokens": 250, "temperature": 0}
        asked["extra_body"] = {"ignore_eos": True}
        pieces = list(
            client.completions.create(**asked, stream=True, stream_options={"include_usage": True})
        )
        whole = client.completions.create(**asked)

    *texts, last = pieces
    assert 1 < len(texts) < 250
    assert "".join(one.choices[0].text for one in texts) == whole.choices[0].text
    assert texts[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert last.choices == []
    assert last.usage.completion_tokens == whole.usage.completion_tokens == 250


def test_async_client_streams_too(gateway: RunningGateway) -> None:
    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none") as client:
            stream = await client.completions.create(
                model="nanotriton", prompt=PROMPT, max_tokens=250, stream=True
            )
            return [one.choices[0].text async for one in stream]

    assert len(asyncio.run(ask())) >= 2


def test_seed_gives_the_same_texts_and_n_so_many(gateway: RunningGateway) -> None:
    def ask() -> list[str]:
        answer = client.completions.create(
            model="nanotriton", prompt=PROMPT, n=3, best_of=4, seed=7, max_tokens=8
        )
        return [one.text for one in answer.choices]

    with gateway.openai() as client:
        first = ask()
        assert first == ask()
    assert len(first) == 3
    assert len({*first}) > 1


def test_stop_ends_the_text_before_itself(gateway: RunningGateway) -> None:
    with gateway.openai() as client:
        answer = client.completions.create(
            model="nanotriton", prompt=PROMPT, temperature=0, max_tokens=20, stop=["return", "\0x"]
        )
    assert answer.choices[0].finish_reason == "stop"
    assert "return" not in answer.choices[0].text


def test_suffix_fills_in_the_middle(gateway: RunningGateway, server: RunningServer) -> None:
    before, after = "def mean(values):\n    total = ", "\n    return total / len(values)\n"
    with server.client() as direct:
        expected = direct.complete(before, suffix=after, max_tokens=12, stop_at="line")
    with gateway.openai() as client:
        answer = client.completions.create(
            model="nanotriton",
            prompt=before,
            suffix=after,
            max_tokens=12,
            temperature=0,
            extra_body={"stop_at": "line"},
        )
    assert answer.choices[0].text == expected.text


def test_logprobs_are_those_of_the_model(gateway: RunningGateway) -> None:
    with gateway.openai() as client:
        answer = client.completions.create(
            model="nanotriton", prompt=PROMPT, temperature=0, max_tokens=6, logprobs=2
        )
    (choice,) = answer.choices
    told = choice.logprobs
    assert told is not None
    assert told.tokens is not None
    assert "".join(told.tokens) == choice.text
    assert told.text_offset == [sum(map(len, told.tokens[:i])) for i in range(len(told.tokens))]
    for token, logprob, top in zip(
        told.tokens, told.token_logprobs or [], told.top_logprobs or [], strict=True
    ):
        assert len(top) == 2
        assert top[token] == logprob == max(top.values()) < 0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_echo_puts_the_prompt_before_each_text(gateway: RunningGateway, stream: bool) -> None:
    asked = {"model": "nanotriton", "prompt": PROMPT, "n": 2, "max_tokens": 3, "echo": True}
    with gateway.openai() as client:
        texts = ["", ""]
        if stream:
            for chunk in client.completions.create(**asked, stream=True):
                texts[chunk.choices[0].index] += chunk.choices[0].text
        else:
            texts = [one.text for one in client.completions.create(**asked).choices]
    assert all(one.startswith(PROMPT) and one.count(PROMPT) == 1 for one in texts)


def test_prompt_in_an_array_of_one_is_that_prompt(gateway: RunningGateway) -> None:
    with gateway.openai() as client:
        one, same = (
            client.completions.create(model="nanotriton", prompt=prompt, temperature=0)
            for prompt in (PROMPT, [PROMPT])
        )
    assert one.choices[0].text == same.choices[0].text
    assert one.usage is not None
    assert one.usage.completion_tokens == 16  # OpenAI's default


def test_models_are_listed(gateway: RunningGateway) -> None:
    with gateway.openai() as client:
        assert [one.id for one in client.models.list()] == ["nanotriton"]
        assert client.models.retrieve("nanotriton").object == "model"
        with pytest.raises(openai.NotFoundError, match="isn't there"):
            client.models.retrieve("gpt-4")


def test_refusal_is_the_clients_own_error_with_the_field(gateway: RunningGateway) -> None:
    with gateway.openai() as client, pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="nanotriton", prompt=PROMPT, max_tokens=0)
    assert caught.value.param == "max_tokens"
    assert caught.value.type == "invalid_request_error"


def test_unknown_model_is_not_found(gateway: RunningGateway) -> None:
    with gateway.openai() as client, pytest.raises(openai.NotFoundError) as caught:
        client.completions.create(model="gpt-4", prompt=PROMPT)
    assert caught.value.code == "model_not_found"


def test_timeout_of_the_client_ends_the_text_early(gateway: RunningGateway) -> None:
    with gateway.openai() as client:
        answer = client.completions.create(
            model="nanotriton",
            prompt=PROMPT,
            max_tokens=400,
            extra_body={"timeout_ms": 60, "ignore_eos": True},
        )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens < 400
