"""What a kept answer is found by: the whole text of everything that decides it.

Comes in: who asks, what is asked, which model version answers. Goes out: one text, the scope (small
canonical JSON) before the prompt, led by the scope's length, so that no two requests of different
answers share a key, whatever their texts hold. A store may find an entry by a hash of the key, but
compares all of it. Knows nothing of stores.
"""

import json

from gateway.messages import Caller, CompletionRequest, Served

# How a request is served, not what its text is.
NO_EFFECT = {"priority", "timeout_ms", "user"}
# What a greedy text doesn't depend on.
DRAWING = {"temperature", "top_k", "top_p", "min_p", "seed"}
# Texts that ended so are whole answers; "timeout" and "cancelled" are not.
WHOLE = {"stop", "length"}


def is_greedy(request: CompletionRequest) -> bool:
    """Whether every token is the likeliest."""
    return not request.settings.get("temperature")


def scope_of(kind: str, caller: Caller, request: CompletionRequest, served: Served) -> str:
    """All that decides an answer but the prompt; `kind` keeps the caches apart."""
    ignored = NO_EFFECT | DRAWING if is_greedy(request) else NO_EFFECT
    settings = {
        name: value
        for name, value in request.settings.items()
        if value is not None and name not in ignored
    }
    version = (served.backend, served.model, served.version, served.precision)
    return json.dumps([kind, caller.tenant, *version, settings], sort_keys=True, default=dict)


def join_key(scope: str, text: str) -> str:
    """The key of a text in a scope."""
    return f"{len(scope)}:{scope}{text}"
