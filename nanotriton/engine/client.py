"""Talks to the engine's process: what the Triton adapters and the tests use.

Comes in: prompts as token ids, from any thread. Goes out: events, through a callback on this
client's own thread. Every request gets exactly one final event, whatever happens to the engine:
when the connection breaks, all that was under way fails with Unavailable, and the client connects
again on its own. Knows nothing of text or of Triton.
"""

import itertools
import os
import queue
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from nanotriton.engine.events import Event, Failure, is_final, joined
from nanotriton.engine.protocol import Message, event_from_message, pack, unpack
from nanotriton.engine.request import Settings
from nanotriton.errors import NanotritonError, Unavailable

OnEvent = Callable[[Event], None]

STARTING = "the engine is starting: send the request again in a few seconds"
LOST = "the engine's process ended while it worked on this request: send it again"
RECONNECT_MS = 50


@dataclass(frozen=True, slots=True)
class _Command:
    """Something that another thread wants sent; no message at all asks the thread to end."""

    message: Message | None


class EngineClient:
    """One connection to an engine, shared by any number of threads and requests.

    Each connection is a socket of its own, given up when it breaks: so a request belongs to one
    connection, and none can be lost between two.
    """

    def __init__(self, path: Path) -> None:
        self._address = f"ipc://{path}"
        self._context = zmq.Context()
        self._ids = itertools.count(1)
        self._commands: queue.SimpleQueue[_Command] = queue.SimpleQueue()
        self._on_event: dict[int, OnEvent] = {}
        self._stats: dict[int, Future[dict[str, Any]]] = {}
        self._connected = threading.Event()
        self._wake = os.eventfd(0)  # cheaper by far than a ZeroMQ socket, and for any thread
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="engine-client", daemon=True)
        self._thread.start()

    @property
    def num_running(self) -> int:
        """Requests whose final event has not come."""
        return len(self._on_event)

    def submit(
        self,
        prompt: Sequence[int],
        settings: Settings,
        on_event: OnEvent,
        *,
        in_pieces: bool = True,
    ) -> int:
        """Send a request; `on_event` sees its events, the last one final. Returns its id.

        Without `in_pieces` there are events at its end only.
        """
        request_id = next(self._ids)
        self._on_event[request_id] = on_event
        self._send(
            {
                "op": "submit",
                "id": request_id,
                "prompt": list(prompt),
                "settings": settings.to_message(),
                "in_pieces": in_pieces,
            }
        )
        return request_id

    def cancel(self, request_id: int) -> None:
        """Ask the engine to end a request; its final event says "cancelled"."""
        self._send({"op": "cancel", "id": request_id})

    def stats(self, timeout_s: float = 5.0) -> dict[str, Any]:
        """The engine's counts (see `Engine.stats`); raises Unavailable when it does not answer."""
        request_id = next(self._ids)
        future: Future[dict[str, Any]] = Future()
        self._stats[request_id] = future
        self._send({"op": "stats", "id": request_id})
        try:
            return future.result(timeout_s)
        except FutureTimeoutError:
            raise Unavailable(f"the engine did not answer within {timeout_s:g} s") from None
        finally:
            self._stats.pop(request_id, None)

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until the engine is there; raises Unavailable when it is not in time."""
        if not self._connected.wait(timeout_s):
            raise Unavailable(f"no engine listens on {self._address} after {timeout_s:g} s")

    def close(self) -> None:
        """Fail what is under way and end the thread."""
        self._post(_Command(None))
        self._is_closed = True
        self._thread.join()
        os.close(self._wake)
        self._context.term()

    def _send(self, message: Message) -> None:
        self._post(_Command(message))

    def _post(self, command: _Command) -> None:
        if self._is_closed:
            raise Unavailable("this connection to the engine was closed")
        self._commands.put(command)
        os.eventfd_write(self._wake, 1)

    # What follows runs on the client's own thread.

    def _run(self) -> None:
        while self._serve_connection():
            pass

    def _serve_connection(self) -> bool:
        """Talk over one connection until it breaks (True) or the client closes (False)."""
        dealer = self._context.socket(zmq.DEALER)
        dealer.linger = 0
        dealer.immediate = 1  # send nothing before the connection stands
        dealer.reconnect_ivl = RECONNECT_MS
        monitor = dealer.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        dealer.connect(self._address)
        poller = zmq.Poller()
        for socket in (dealer, monitor, self._wake):
            poller.register(socket, zmq.POLLIN)
        try:
            while True:
                ready = dict(poller.poll())
                if dealer in ready:
                    self._receive(dealer)
                if monitor in ready:
                    if recv_monitor_message(monitor)["event"] == zmq.EVENT_DISCONNECTED:
                        return True
                    self._connected.set()
                if self._wake in ready and not self._send_commands(dealer):
                    return False
        finally:
            self._connected.clear()
            dealer.disable_monitor()
            monitor.close()
            dealer.close()
            self._fail_all(Unavailable(LOST))

    def _send_commands(self, dealer: "zmq.Socket[bytes]") -> bool:
        """Send all that other threads asked for; False when they asked to close."""
        os.eventfd_read(self._wake)
        while not self._commands.empty():
            command = self._commands.get()
            if command.message is None:
                return False
            self._forward(dealer, command.message)
        return True

    def _forward(self, dealer: "zmq.Socket[bytes]", message: Message) -> None:
        if message["id"] not in self._on_event and message["id"] not in self._stats:
            return  # ended or failed while this waited to be sent
        try:
            dealer.send(pack([message]), zmq.NOBLOCK)
        except zmq.Again:
            self._fail(message["id"], Unavailable(STARTING))

    def _receive(self, dealer: "zmq.Socket[bytes]") -> None:
        """Tell all that has come; a text's tokens of several steps at once, if they wait here.

        So whoever is slower than the engine gets fewer, larger pieces, and keeps up.
        """
        events: list[Event] = []
        for message in _waiting_messages(dealer):
            if message["op"] == "stats":
                if future := self._stats.pop(message["id"], None):
                    future.set_result(message["stats"])
            else:
                events.append(event_from_message(message))
        for event in joined(events):
            self._deliver(event)

    def _deliver(self, event: Event) -> None:
        request_id = event.key[1]
        on_event = self._on_event.get(request_id)
        if is_final(event):
            self._on_event.pop(request_id, None)
        if on_event:
            try:
                on_event(event)
            except Exception:  # the thread's loop: one caller's mistake must not end the others
                traceback.print_exc()

    def _fail_all(self, error: NanotritonError) -> None:
        for request_id in [*self._on_event, *self._stats]:
            self._fail(request_id, error)

    def _fail(self, request_id: int, error: NanotritonError) -> None:
        if future := self._stats.pop(request_id, None):
            future.set_exception(error)
        self._deliver(Failure((b"", request_id), error))


def _waiting_messages(dealer: "zmq.Socket[bytes]") -> Iterator[Message]:
    """What can be read without waiting."""
    while True:
        try:
            frame = dealer.recv(zmq.NOBLOCK)
        except zmq.Again:
            return
        yield from unpack(frame)
