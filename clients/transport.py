"""What the facades ask of a transport: a request's tensors in, messages out, ClientError raised."""

from collections.abc import AsyncGenerator, Generator
from typing import Protocol

from clients.attempts import Deadline
from clients.envelope import Envelope
from clients.messages import Chunk, Completion, ServerInfo
from clients.tensors import Tensor

Tensors = tuple[Tensor, ...]


class Call(Protocol):
    """One streamed request; closing the iterator of `chunks` ends it on the server too."""

    def chunks(self) -> Generator[Chunk, None, None]:
        """The answer as it comes, without a promise that its last chunk arrives."""

    def cancel(self) -> None:
        """End it from any thread; `chunks` then raises, or ends."""


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
