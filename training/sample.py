"""A model, a tokenizer and a prompt in; a continuation as text out.

Plain and slow (no KV cache): for a look at the weights, not for serving.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from training.bpe import END_OF_TEXT, TokenizerSpec
from training.errors import ConfigError
from training.gpt import GPT
from training.infill import Markers


@dataclass(frozen=True, slots=True)
class SampleConfig:
    """How to continue a prompt; temperature 0 takes the likeliest token every time."""

    max_tokens: int = 80
    temperature: float = 0.4
    seed: int = 1337

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ConfigError(f"max_tokens is {self.max_tokens}, it must be at least 1")
        if self.temperature < 0:
            raise ConfigError(f"temperature is {self.temperature}, it must be at least 0")


def sample_text(model: GPT, spec: TokenizerSpec, prompt: str, config: SampleConfig) -> str:
    """The prompt and its continuation, up to ``max_tokens`` or the end of the text."""
    encoding = spec.encoding()
    ids = encoding.encode_ordinary(prompt)
    if not ids:
        raise ConfigError("the prompt is empty, it needs at least 1 token: give some code")
    return encoding.decode(ids + _continue(model, spec, ids, config))


def sample_middle(
    model: GPT,
    spec: TokenizerSpec,
    prefix: str,
    suffix: str,
    config: SampleConfig,
    *,
    suffix_first: bool,
) -> str:
    """What the model puts between the two; raises TokenizerError without FIM tokens."""
    encoding = spec.encoding()
    markers = Markers.of(spec.special_tokens)
    before, after = (encoding.encode_ordinary(text) for text in (prefix, suffix))
    ids = markers.ask(before, after, suffix_first=suffix_first)
    return encoding.decode(_continue(model, spec, ids, config))


@torch.no_grad()
def _continue(
    model: GPT, spec: TokenizerSpec, prompt: Sequence[int], config: SampleConfig
) -> list[int]:
    model.eval()
    generator = torch.Generator().manual_seed(config.seed)
    ids = list(prompt)
    for _ in range(config.max_tokens):
        window = torch.tensor([ids[-model.config.block_size :]])  # (1, T)
        token = _pick(model(window)[0, -1].float(), config.temperature, generator)
        if token == spec.special_tokens[END_OF_TEXT]:
            break
        ids.append(token)
    return ids[len(prompt) :]


def _pick(logits: torch.Tensor, temperature: float, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    probabilities = torch.softmax(logits / temperature, dim=-1)  # (V,)
    return int(torch.multinomial(probabilities, 1, generator=generator))
