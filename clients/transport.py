"""What the facades ask of a transport: a request's tensors in, messages out, ClientError raised."""

from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Mapping
from typing import Any, Protocol

from clients.attempts import Deadline
from clients.envelope import Envelope
from clients.errors import ClientError
from clients.messages import Chunk, Completion, ServerInfo
from clients.tensors import Tensor

Tensors = tuple[Tensor, ...]


class Call(Protocol):
    """One streamed request; closing the iterator of `chunks` ends it on the server too."""

    def chunks(self) -> Generator[Chunk, None, None]:
        """The answer as it comes, without a promise that its last chunk arrives."""

    def cancel(self) -> None:
        """End it from any thread; `chunks` then raises, or ends."""

    def stop(self) -> bool:
        """Have the server end it, from any thread; whether `chunks` goes on to a last chunk."""


class Transport(Protocol):
    """Long-lived connections to one server, shared by threads."""

    def complete(self, tensors: Tensors, deadline: Deadline, envelope: Envelope) -> Completion:
        """Send one unary request."""

    def stream(self, tensors: Tensors, deadline: Deadline, envelope: Envelope) -> Call:
        """Begin one streamed request."""

    def is_ready(self, deadline: Deadline) -> bool:
        """Whether both models are loaded."""

    def describe(self, deadline: Deadline) -> ServerInfo:
        """What the server has loaded."""

    def close(self) -> None:
        """Drop the connections and what is in flight."""


class AsyncCall(Protocol):
    """The same within an event loop; cancelling the task that reads `chunks` ends it too."""

    def chunks(self) -> AsyncGenerator[Chunk, None]:
        """The answer as it comes, without a promise that its last chunk arrives."""

    def cancel(self) -> None:
        """End it from any task; `chunks` then raises, or ends."""

    async def stop(self) -> bool:
        """Have the server end it, from any task; whether `chunks` goes on to a last chunk."""


class AsyncTransport(Protocol):
    """The same within an event loop."""

    async def complete(
        self, tensors: Tensors, deadline: Deadline, envelope: Envelope
    ) -> Completion:
        """Send one unary request."""

    def stream(self, tensors: Tensors, deadline: Deadline, envelope: Envelope) -> AsyncCall:
        """Begin one streamed request."""

    async def is_ready(self, deadline: Deadline) -> bool:
        """Whether both models are loaded."""

    async def describe(self, deadline: Deadline) -> ServerInfo:
        """What the server has loaded."""

    async def close(self) -> None:
        """Drop the connections and what is in flight."""


class Decoder(Protocol):
    """Reads one stream of server-sent events."""

    def feed(self, data: bytes) -> Iterator[Chunk]:
        """The chunks that became whole; raises ClientError."""


class Wire(Protocol):
    """What is said over HTTP, and how; the modules http_wire and gateway_wire are wires."""

    UNARY_PATH: str
    STREAM_PATH: str
    READY_PATHS: tuple[str, ...]

    @property
    def EventDecoder(self) -> Callable[[], Decoder]:
        """A new decoder for each stream."""

    def headers_of(self, envelope: Envelope, left_s: float) -> dict[str, str]:
        """The headers of a request that may take so long."""

    def encode_unary(self, tensors: Iterable[Tensor], request_id: str = "") -> dict[str, Any]:
        """A body for UNARY_PATH."""

    def encode_stream(self, tensors: Iterable[Tensor], request_id: str = "") -> dict[str, Any]:
        """A body for STREAM_PATH."""

    def decode_unary(self, body: bytes) -> Completion:
        """The completion in an answer; raises ServerError."""

    def error_of(self, status: int, headers: Mapping[str, str], body: bytes) -> ClientError:
        """The error of an answer that isn't 200."""
