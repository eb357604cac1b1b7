"""The served endpoint against torch: the same greedy tokens, for real code of many lengths."""

import io
import random
import tokenize
import urllib.request
from pathlib import Path

import pytest
import torch
from running import ROOT, RunningServer
from transformers import GPT2LMHeadModel

from nanotriton.manifest import newest_version
from nanotriton.tokenizer import load_tokenizer

NUM_PROMPTS = 50
NUM_NEW = 24
MAX_PROMPT_TOKENS = 200


@pytest.fixture(scope="module")
def prompts(demo_repository: Path) -> list[str]:
    """Beginnings of real code, 1 to 200 tokens long, that tokenize back to those tokens."""
    tokenizer = load_tokenizer(newest_version(demo_repository))
    choice = random.Random(5)
    sources = [
        Path(module.__file__).read_text() for module in (random, tokenize, io, urllib.request)
    ]
    texts = []
    while len(texts) < NUM_PROMPTS:
        ids = tokenizer.encode(choice.choice(sources))
        start = choice.randrange(len(ids) - MAX_PROMPT_TOKENS)
        length = 1 + (MAX_PROMPT_TOKENS - 1) * len(texts) // (NUM_PROMPTS - 1)
        text = tokenizer.decode(ids[start : start + length])
        if tokenizer.encode(text) == ids[start : start + length]:
            texts.append(text)
    return texts


def test_greedy_text_of_both_doors_is_torchs(server: RunningServer, prompts: list[str]) -> None:
    tokenizer = load_tokenizer(newest_version(server.repository))
    torch.set_num_threads(1)  # the server needs the other cores
    model = GPT2LMHeadModel.from_pretrained(ROOT / "demo", dtype=torch.float32).eval()

    with server.client() as client:
        for prompt in prompts:
            ids = torch.tensor([tokenizer.encode(prompt)])
            with torch.no_grad():
                expected = model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    do_sample=False,
                    max_new_tokens=NUM_NEW,
                    pad_token_id=tokenizer.end_of_text,
                )[0, ids.shape[1] :].tolist()
            answer = client.complete(prompt, max_tokens=NUM_NEW)
            assert answer.completion_tokens == len(expected)
            assert answer.text == tokenizer.decode(expected), prompt
            with client.stream(prompt, max_tokens=NUM_NEW) as stream:
                assert "".join(chunk.text for chunk in stream) == answer.text
