"""The same request again: an answer that was given, as long as only the request decides it.

Comes in: a request and who would serve it. Goes out: the Answer with the usage it had when it was
written (the account tells it as cached), or None. What is kept is found by the tenant, the model
version, the prompt and every setting that changes the text, compared whole. Requests that are drawn
without a seed are never kept, nor answers that a deadline cut. Knows nothing of echo or streams.
"""

from pydantic import TypeAdapter, ValidationError

from gateway.caches.keys import WHOLE, join_key, scope_of
from gateway.caches.store import Store
from gateway.messages import Answer, Caller, CompletionRequest, Served

ANSWER = TypeAdapter(Answer)


class ResponseCache:
    """Exact matches of deterministic requests."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(
        self, caller: Caller, request: CompletionRequest, served: Served
    ) -> Answer | None:
        """The answer that this tenant got before."""
        if not request.is_deterministic:
            return None
        (text,) = await self._store.get(_key(caller, request, served))
        if text is None:
            return None
        try:
            return ANSWER.validate_json(text)
        except ValidationError:
            return None  # another version of the gateway wrote it

    async def put(
        self, caller: Caller, request: CompletionRequest, served: Served, answer: Answer
    ) -> None:
        """Keep a whole answer."""
        if request.is_deterministic and WHOLE.issuperset(answer.finish_reasons):
            text = ANSWER.dump_json(answer).decode()
            await self._store.put(_key(caller, request, served), text)


def _key(caller: Caller, request: CompletionRequest, served: Served) -> str:
    return join_key(scope_of("answer", caller, request, served), request.prompt)
