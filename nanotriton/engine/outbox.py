"""Frames on their way to peers, none of which is ever waited for.

Comes in: messages by peer. Goes out: what ZeroMQ takes at once. A peer that reads late gets
everything, up to MAX_UNREAD_FRAMES; beyond that it is told, when it reads again, which of its
requests were lost. Knows nothing of what is inside a message but its id and whether it is final.
"""

from collections.abc import Iterable
from enum import Enum

import zmq

from nanotriton.engine.protocol import Message, failure_message, is_final_message, pack
from nanotriton.errors import Unavailable

# A frame is one step's: minutes of steps, and 25 MB when 32 sequences run.
MAX_UNREAD_FRAMES = 4096
UNREAD = (
    f"the engine gave this request up, for {MAX_UNREAD_FRAMES} answers of its connection stood "
    "unread: read them faster, and send it again"
)


class Reception(Enum):
    """What became of a frame."""

    SENT = "sent"
    GONE = "cancelled"  # nobody has that end any more
    UNREAD = "unread"


class Outbox:
    """Sends through one ROUTER socket, on the thread that owns it."""

    def __init__(self, router: zmq.SyncSocket) -> None:
        self._router = router
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)  # a send that can't be done raises
        router.setsockopt(zmq.LINGER, 0)
        router.setsockopt(zmq.SNDHWM, MAX_UNREAD_FRAMES)
        self._lost: dict[bytes, dict[int, Message]] = {}  # by peer and request

    def send(self, peer: bytes, messages: list[Message]) -> Reception:
        """Send one frame, or what a peer must be told instead of it."""
        if peer not in self._lost:
            reception = self._send(peer, messages)
            if reception is not Reception.UNREAD:
                return reception
        self.lose(peer, [one["id"] for one in messages if is_final_message(one)])
        return Reception.UNREAD

    def lose(self, peer: bytes, request_ids: Iterable[int]) -> None:
        """Remember requests that an unreading peer has to be told of."""
        told = {one: failure_message(one, Unavailable(UNREAD)) for one in request_ids}
        self._lost.setdefault(peer, {}).update(told)

    def flush(self) -> None:
        """Tell the peers that read again; forget those that are gone."""
        for peer, messages in list(self._lost.items()):
            if self._send(peer, list(messages.values())) is not Reception.UNREAD:
                del self._lost[peer]

    def _send(self, peer: bytes, messages: list[Message]) -> Reception:
        try:
            self._router.send_multipart([peer, pack(messages)], zmq.NOBLOCK)
        except zmq.Again:
            return Reception.UNREAD
        except zmq.ZMQError:
            return Reception.GONE
        return Reception.SENT
