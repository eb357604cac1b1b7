"""The messages between the engine's process and those who talk to it, as msgpack maps.

    to the engine     {"op": "submit", "id", "prompt", "settings", "in_pieces"}
                      {"op": "cancel", "id"} · {"op": "stats", "id"}
    from the engine   {"op": "tokens", "id", "tokens", "text", "finish_reason", "usage", "logprobs",
                       "index", "num_healed", "work", "times"}
                      {"op": "failure", "id", "status", "message", "times"}
                      {"op": "stats", "id", "stats"}

One frame holds a list of messages: after a step the engine sends one to each peer that is to be
told. `id` is the peer's own number for a request. Knows the socket's place, and nothing of what is
sent there when.
"""

import hashlib
import os
import socket
import stat
import tempfile
import time
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import msgpack

from nanotriton.engine.events import Event, Failure, Times, TokenEvent, Usage, Work
from nanotriton.engine.logprobs import TokenLogprob
from nanotriton.errors import NanotritonError, ServerError, Unavailable, from_status

Message = dict[str, Any]

PROTOCOL_VERSION = 2
NEW_SOCKET_S = 10.0


def pack(messages: Sequence[Message]) -> bytes:
    """Messages to one frame."""
    frame: bytes = msgpack.packb(messages)
    return frame


def unpack(frame: bytes) -> list[Message]:
    """One frame to its messages."""
    messages: list[Message] = msgpack.unpackb(frame)
    return messages


def event_to_message(event: Event) -> Message:
    """An event of the engine as it travels; its key's peer is the envelope's business."""
    when = {"times": astuple(event.times)} if event.times else {}
    if isinstance(event, Failure):
        return failure_message(event.key[1], event.error) | when
    usage = event.usage
    likely = [(one.token, one.logprob, one.top) for one in event.logprobs]
    return {
        "op": "tokens",
        "id": event.key[1],
        "tokens": event.tokens,
        "text": event.text,
        "finish_reason": event.finish_reason,
        "usage": usage and (usage.prompt_tokens, usage.completion_tokens),
        **({"logprobs": likely} if likely else {}),
        **({"index": event.index} if event.index else {}),
        **({"num_healed": event.num_healed} if event.num_healed else {}),
        **({"work": astuple(event.work)} if event.work else {}),
        **when,
    }


def failure_message(request_id: int, error: NanotritonError) -> Message:
    """A refusal or a failure as it travels."""
    return {"op": "failure", "id": request_id, "status": error.status, "message": str(error)}


def is_final_message(message: Message) -> bool:
    """Whether nothing follows this answer to its request: only tokens without usage go on."""
    return message["op"] != "tokens" or message["usage"] is not None


def event_from_message(message: Message) -> Event:
    """The event that a "tokens" or "failure" message carries; its peer is this one."""
    key = (b"", message["id"])
    times = Times(*message["times"]) if "times" in message else None
    if message["op"] == "failure":
        return Failure(key, from_status(message["status"], message["message"]), times)
    usage = message["usage"]
    return TokenEvent(
        key,
        tuple(message["tokens"]),
        message["text"],
        message["finish_reason"],
        usage and Usage(*usage),
        tuple(_logprob_from(*one) for one in message.get("logprobs", ())),
        message.get("index", 0),
        message.get("num_healed", 0),
        Work(*message["work"]) if "work" in message else None,
        times,
    )


def _logprob_from(token: int, logprob: float, top: Sequence[Sequence[Any]]) -> TokenLogprob:
    return TokenLogprob(token, logprob, tuple((other, value) for other, value in top))


def socket_path(repository: Path, version: int, server_pid: int) -> Path:
    """Where the engine of one version, in one running server, listens.

    Both doors derive the same path on their own. It lies in a folder that only this user can
    open, and is short: a UNIX socket's path has at most 107 bytes. Raises ServerError when
    somebody else owns that folder.
    """
    return _socket_folder() / f"{_repository_key(repository)}-{version}-{server_pid}.sock"


def find_sockets(repository: Path) -> list[Path]:
    """Sockets of the engines that run this repository, the one started last at the end."""
    found = _socket_folder().glob(f"{_repository_key(repository)}-*.sock")
    return sorted(found, key=lambda path: path.stat().st_mtime)


def sibling_sockets(path: Path) -> list[Path]:
    """Sockets of the other versions' engines of the same running server."""
    key, _, server_pid = path.stem.split("-")
    return [one for one in path.parent.glob(f"{key}-*-{server_pid}.sock") if one != path]


def newest_socket(repository: Path) -> Path:
    """That of the engine started last; raises Unavailable when no server runs the repository."""
    if not (sockets := find_sockets(repository)):
        raise Unavailable(f"no server of {repository} runs here: start it with nanotriton serve")
    return sockets[-1]


def remove_dead_sockets(folder: Path) -> None:
    """Take away what engines that were killed left: sockets that nobody listens on any more."""
    for path in folder.glob("*.sock"):
        try:
            if time.time() - path.stat().st_mtime < NEW_SOCKET_S:
                continue  # perhaps just bound, and about to listen
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(1.0)
                probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except OSError:
            continue  # gone already, or somebody's who is busy


def _repository_key(repository: Path) -> str:
    return hashlib.sha256(str(repository.resolve()).encode()).hexdigest()[:12]


def _socket_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"nanotriton-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    info = folder.stat()
    if info.st_uid != os.getuid() or stat.S_IMODE(info.st_mode) & 0o077:
        raise ServerError(
            f"{folder} belongs to user {info.st_uid} with mode {stat.S_IMODE(info.st_mode):o}, "
            "expected your own with mode 700: remove it, or set TMPDIR"
        )
    return folder
