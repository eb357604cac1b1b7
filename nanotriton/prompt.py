"""A prompt's text to token ids that fit the model; the one place that refuses or cuts a prompt.

Comes in: raw bytes as a client sent them. Goes out: token ids, at most `context` of them. Both
doors call it, so both refuse alike. Knows nothing of Triton or of the engine.
"""

from collections.abc import Sequence

from nanotriton.contract import TEXT_INPUT
from nanotriton.errors import InvalidRequest
from nanotriton.tokenizer import Tokenizer


def encode_prompt(
    text: str, tokenizer: Tokenizer, context: int, max_tokens: int, truncate: str
) -> list[int]:
    """Token ids of `text`; raises InvalidRequest when it is empty, holds NUL or is too long.

    With truncate="left" a prompt that is too long loses its beginning (see `keep_end`). Work is
    bounded: of a text that must be longer than the context whatever its tokens are, no more than
    the part that could fit is tokenized.
    """
    if not text:
        raise InvalidRequest(f"{TEXT_INPUT} is empty: send at least one character")
    if (position := text.find("\0")) >= 0:
        raise InvalidRequest(f"{TEXT_INPUT} holds a NUL character at {position}: leave it out")
    if max_tokens > context:
        raise too_many_tokens(max_tokens, context)
    raw = text.encode()
    room = context * tokenizer.longest_token_bytes
    may_fit = len(raw) <= room
    if not may_fit and truncate != "left":
        least = -(-len(raw) // tokenizer.longest_token_bytes)
        raise too_long(f"{len(raw)} bytes, which are at least {least} tokens", context)
    ids = tokenizer.encode(text if may_fit else raw[-room:].decode(errors="ignore"))
    if may_fit and len(ids) <= context:
        return ids
    if truncate == "left":
        return keep_end(ids, context, max_tokens)
    raise too_long(f"{len(ids)} tokens", context)


def keep_end(ids: Sequence[int], context: int, max_tokens: int) -> list[int]:
    """The last ids, so many that `max_tokens` more still fit; never under half the context."""
    return list(ids[-max(context - max_tokens + 1, context // 2) :])


def too_long(seen: str, context: int) -> InvalidRequest:
    """The refusal of a prompt that the model can't read."""
    return InvalidRequest(
        f"the prompt has {seen}, the model reads at most {context}: shorten it or set truncate=left"
    )


def too_many_tokens(max_tokens: int, context: int) -> InvalidRequest:
    """The refusal of a completion that the model could never write."""
    return InvalidRequest(
        f"max_tokens is {max_tokens}, the model's context is {context} tokens: ask for fewer"
    )
