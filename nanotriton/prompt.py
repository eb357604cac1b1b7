"""A prompt's text to token ids that fit the model; the one place that refuses or cuts a prompt.

Comes in: the text before the cursor and the text after it, if any. Goes out: token ids, at most
`context` of them. Both doors call it, so both refuse alike. Knows nothing of Triton or of the
engine.
"""

from collections.abc import Sequence

from nanotriton.contract import SUFFIX, TEXT_INPUT
from nanotriton.errors import InvalidRequest
from nanotriton.infill import NUM_MARKERS, Markers
from nanotriton.tokenizer import Tokenizer

CUT_STEPS = 8  # a cut moves on by an eighth of the context at a time
SUFFIX_SHARE = 3  # of a cut prompt the suffix gets a third: what is written follows the prefix


def encode_prompt(
    text: str,
    tokenizer: Tokenizer,
    context: int,
    max_tokens: int,
    truncate: str,
    *,
    suffix: str = "",
    markers: Markers | None = None,
) -> list[int]:
    """Token ids of `text`; raises InvalidRequest when it is empty, holds NUL or is too long.

    With truncate="left" a prompt that is too long loses its beginning (see `keep_end`). Work is
    bounded: of a text that must be longer than the context whatever its tokens are, no more than
    the part that could fit is tokenized.

    With a suffix the middle is asked for, and both sides, the markers and all of `max_tokens` must
    fit; truncate="left" then cuts both sides (see `_encode_sides`). `markers` is None for a model
    that fills nothing in. An empty suffix is none, so that an editor may always send what follows
    the cursor; with a suffix `text` may be empty.
    """
    _check_texts(text, suffix)
    if max_tokens > context:
        raise too_many_tokens(max_tokens, context)
    if suffix:
        if markers is None:
            raise InvalidRequest(
                f"{SUFFIX} is given, but this model was not trained to fill in the middle: leave "
                "it out, or serve a model whose manifest says infill"
            )
        is_cut = truncate == "left"
        most = _max_kept(context, max_tokens) if is_cut else context - max_tokens + 1
        room = max(most - NUM_MARKERS, 0)
        return markers.arrange(*_encode_sides(text, suffix, tokenizer, room, is_cut=is_cut))
    raw = text.encode()
    room = context * tokenizer.longest_token_bytes
    may_fit = len(raw) <= room
    if not may_fit and truncate != "left":
        least = -(-len(raw) // tokenizer.longest_token_bytes)
        raise too_long(f"{len(raw)} bytes, which are at least {least} tokens", context)
    end = raw[_cut(len(raw), room, room // CUT_STEPS) :]
    ids = tokenizer.encode(text if may_fit else end.decode(errors="ignore"))
    if may_fit and len(ids) <= context:
        return ids
    if truncate == "left":
        return keep_end(ids, context, max_tokens)
    raise too_long(f"{len(ids)} tokens", context)


def _check_texts(text: str, suffix: str) -> None:
    if not text and not suffix:
        raise InvalidRequest(f"{TEXT_INPUT} is empty: send at least one character")
    for name, one in ((TEXT_INPUT, text), (SUFFIX, suffix)):
        if (position := one.find("\0")) >= 0:
            raise InvalidRequest(f"{name} holds a NUL character at {position}: leave it out")


def _encode_sides(
    text: str, suffix: str, tokenizer: Tokenizer, room: int, *, is_cut: bool
) -> tuple[list[int], list[int]]:
    """Token ids of what is before a hole and after it, together at most `room`, cut or refused.

    Each side is cut at its far end: the suffix on its right, to a third of the room or to what the
    text leaves it, and the text on its left, to the rest.
    """
    before, after = text.encode(), suffix.encode()
    num_bytes, room_bytes = len(before) + len(after), room * tokenizer.longest_token_bytes
    if not is_cut and num_bytes > room_bytes:
        least = -(-num_bytes // tokenizer.longest_token_bytes)
        raise _no_room(f"{num_bytes} bytes, at least {least} tokens", room)
    left = tokenizer.encode(before[-room_bytes:].decode(errors="ignore") if room else "")
    right = tokenizer.encode(after[:room_bytes].decode(errors="ignore"))
    if len(left) + len(right) > room:
        if not is_cut:
            raise _no_room(f"{len(left)} + {len(right)} tokens", room)
        right = right[: max(room // SUFFIX_SHARE, room - len(left))]
        left = left[max(len(left) + len(right) - room, 0) :]
    return left, right


def keep_end(ids: Sequence[int], context: int, max_tokens: int) -> list[int]:
    """The last ids, so many that `max_tokens` more still fit, or that half the context is full.

    Up to an eighth of the context less: while a text grows, its cut stays where it is for that
    long, so that one prompt goes on where the one before it ended and finds it in the prefix cache.
    """
    return list(ids[_cut(len(ids), _max_kept(context, max_tokens), context // CUT_STEPS) :])


def _cut(length: int, room: int, step: int) -> int:
    """Where to cut so that what follows fits; a multiple of `step`."""
    step = max(step, 1)
    return -(-max(length - room, 0) // step) * step


def _max_kept(context: int, max_tokens: int) -> int:
    """Tokens that a cut prompt may have; the last one generated needs no place of its own."""
    return max(context - max_tokens + 1, context // 2)


def too_long(seen: str, context: int) -> InvalidRequest:
    """The refusal of a prompt that the model can't read."""
    return InvalidRequest(
        f"the prompt has {seen}, the model reads at most {context}: shorten it or set truncate=left"
    )


def hole_too_long(num_tokens: int, context: int) -> InvalidRequest:
    """The refusal of token ids with a hole in them, whose marks a cut would lose."""
    return InvalidRequest(
        f"the prompt has {num_tokens} tokens and a hole, the model reads at most {context}, and "
        "truncate=left would cut its marks: shorten both sides, or send them as text"
    )


def too_many_tokens(max_tokens: int, context: int) -> InvalidRequest:
    """The refusal of a completion that the model could never write."""
    return InvalidRequest(
        f"max_tokens is {max_tokens}, the model's context is {context} tokens: ask for fewer"
    )


def _no_room(seen: str, room: int) -> InvalidRequest:
    return InvalidRequest(
        f"{TEXT_INPUT} and {SUFFIX} have {seen}, beside max_tokens and {NUM_MARKERS} markers the "
        f"context has room for {room}: shorten them, lower max_tokens or set truncate=left"
    )
