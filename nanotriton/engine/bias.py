"""The setting `logit_bias`: OpenAI's JSON object in, checked pairs out. Knows nothing of logits."""

import json

from nanotriton.errors import InvalidRequest

MAX_BIASES = 300  # as vLLM and OpenAI allow
MAX_BIAS = 100.0

LogitBias = tuple[tuple[int, float], ...]


def parse_logit_bias(text: str) -> LogitBias:
    """Pairs of token id and bias from `{"50256": -100}`; raises InvalidRequest. "" is none."""
    if not text:
        return ()
    try:
        parsed = json.loads(text)
        return tuple((int(token), float(bias)) for token, bias in parsed.items())
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise InvalidRequest(
            f"logit_bias is {text[:80]!r}, expected a JSON object from token ids to numbers, "
            'such as {"50256": -100}'
        ) from None


def check_logit_bias(biases: LogitBias) -> None:
    """Raises InvalidRequest for too many pairs, a bias out of range or a token named twice."""
    if len(biases) > MAX_BIASES:
        raise InvalidRequest(f"logit_bias has {len(biases)} tokens, at most {MAX_BIASES} may be")
    for token, bias in biases:
        if not -MAX_BIAS <= bias <= MAX_BIAS:  # NaN is outside too
            raise InvalidRequest(
                f"logit_bias of token {token} is {bias:g}, allowed is {-MAX_BIAS:g} to "
                f"{MAX_BIAS:g}: {-MAX_BIAS:g} bans a token"
            )
    if len({token for token, _ in biases}) < len(biases):
        raise InvalidRequest("logit_bias names a token twice: name each once")
