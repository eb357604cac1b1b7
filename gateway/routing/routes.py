"""Who is answered by which backend: the same person by the same one, as far as weights allow.

Comes in: a document, what backends told of themselves, which of them can be asked now. Goes out: a
Backend for each request. Persons are spread by weighted rendezvous hashing (Schindelhauer and
Schomaker 2005, "Weighted distributed hash tables"): each backend draws a lot for the person from
its own hash, -weight / ln(u), and the highest wins. So a weight that changes moves only those who
have to move, and a backend that is away moves only its own. Does no I/O.
"""

import json
import math
from collections.abc import Callable, Collection
from dataclasses import replace
from hashlib import blake2b

from gateway.errors import NotFound, Unavailable
from gateway.messages import Caller, CompletionRequest
from gateway.routing.document import DEFAULT_MODEL, UNKNOWN, Backend, Document, Told

RETRY_AFTER_S = 1.0


def is_always_available(_: Backend) -> bool:
    """For routes without breakers."""
    return True


class Routes:
    """The document in force; `set` and `learn` change it between two requests.

    A backend whose model the document doesn't name serves `default_model`.
    """

    def __init__(
        self,
        document: Document,
        is_available: Callable[[Backend], bool] = is_always_available,
        default_model: str = DEFAULT_MODEL,
    ) -> None:
        self._default_model = default_model
        self._is_available = is_available
        self._told: dict[str, Told] = {}
        self.set(document)

    def backends(self) -> tuple[Backend, ...]:
        """All of them, with what they told filled in."""
        return self._backends

    @property
    def models(self) -> tuple[str, ...]:
        """Every name that a request's `model` may have."""
        return tuple(self._by_alias)

    def set(self, document: Document) -> None:
        """Put a document in force, whole."""
        self.document = document
        self._fill()

    def learn(self, backend: Backend, told: Told) -> None:
        """Take what a backend told of itself; what left the routes meanwhile is forgotten."""
        if self._told.get(backend.url) != told:
            self._told[backend.url] = told
            self._fill()

    def told_by(self, backend: Backend) -> Told | None:
        """What it told last."""
        return self._told.get(backend.url)

    def pick(
        self, caller: Caller, request: CompletionRequest, *, without: Collection[str] = ()
    ) -> Backend:
        """The backend of this person; NotFound for a `model` that nobody serves.

        One that can't be asked now is left out as long as another can, and those named in
        `without`, because they failed this request, altogether: Unavailable when none is left.
        """
        named = [one for one in self._named(request.model) if one.name not in without]
        if not named:
            raise Unavailable(
                "every backend of this model failed: try again", retry_after_s=RETRY_AFTER_S
            )
        able = [one for one in named if self._is_available(one)] or named
        if len(able) == 1:
            return able[0]
        person = _person(caller, request)
        return max(able, key=lambda one: (_lot(self.document.salt, person, one), one.name))

    def shadow(self, caller: Caller, request: CompletionRequest) -> Backend | None:
        """The backend that gets a copy of this request, if it is one of its share."""
        for backend in self._backends:
            share = backend.shadow
            if share and _uniform(self.document.salt, "shadow", backend.name, request.id) < share:
                return None if backend == self.pick(caller, request) else backend
        return None

    def _fill(self) -> None:
        urls = {one.url for one in self.document.backends}
        self._told = {url: told for url, told in self._told.items() if url in urls}
        self._backends = tuple(
            self._filled(one, self._told.get(one.url)) for one in self.document.backends
        )
        by_alias: dict[str, list[Backend]] = {}
        for backend in self._backends:
            for alias in backend.aliases:
                by_alias.setdefault(alias, []).append(backend)
        self._by_alias = by_alias

    def _filled(self, backend: Backend, told: Told | None) -> Backend:
        return replace(
            backend,
            model=backend.model or self._default_model,
            version=backend.version or (told and told.version) or UNKNOWN,
            precision=backend.precision or (told and told.precision) or UNKNOWN,
        )

    def _named(self, model: str | None) -> list[Backend]:
        """Who serves a name; those without a weight only if nobody with one does."""
        found = list(self._backends) if model is None else self._by_alias.get(model, [])
        if not found:
            known = ", ".join(sorted({one.model for one in self._backends}))
            raise NotFound(
                f"there is no model {model!r:.120}, the models are {known}: see /v1/models",
                param="model",
                code="model_not_found",
            )
        return [one for one in found if one.weight] or found


def _person(caller: Caller, request: CompletionRequest) -> str:
    """Who is to stay with one backend: the caller's user, else the session, else the key."""
    if request.user is not None:
        return json.dumps([caller.tenant, "user", request.user])
    if request.session is not None:
        return json.dumps([caller.key_id, "session", request.session])
    return json.dumps([caller.key_id])


def _lot(salt: str, person: str, backend: Backend) -> float:
    # Those without a weight only meet each other: there all weigh the same.
    return -(backend.weight or 1.0) / math.log(_uniform(salt, person, backend.name))


def _uniform(*parts: str) -> float:
    """A number between 0 and 1, both left out, that the parts decide."""
    digest = blake2b(json.dumps(parts).encode(), digest_size=6).digest()
    return (int.from_bytes(digest, "big") + 0.5) / (1 << 48)
