"""The engine's own process: a socket in, the step loop, the socket out.

    python -m nanotriton.engine.process FOLDER --socket PATH [settings]

Comes in: frames of messages from any number of peers over a UNIX socket (ZeroMQ ROUTER). Goes
out: frames of events, after a step one to each peer that is to be told. The first line on stdout
says whether it is ready or why it can't be; then an empty line comes twice a second, as long as
steps end. It ends when its stdin closes, so it never outlives the process that started it. Knows
nothing of Triton.
"""

import argparse
import contextlib
import json
import os
import secrets
import signal
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgpack
import zmq

from nanotriton.engine.core import Engine, EngineOptions
from nanotriton.engine.events import Event, Failure, is_final
from nanotriton.engine.meter import Meter
from nanotriton.engine.outbox import Outbox, Reception
from nanotriton.engine.pieces import Pieces
from nanotriton.engine.protocol import (
    PROTOCOL_VERSION,
    Message,
    event_to_message,
    failure_message,
    remove_dead_sockets,
    unpack,
)
from nanotriton.engine.request import Request, Settings
from nanotriton.engine.settings import ENVIRONMENT, read_settings, words_of
from nanotriton.errors import DeviceLost, NanotritonError, TokenizerError
from nanotriton.machine import this_machine
from nanotriton.manifest import Manifest
from nanotriton.runners.base import Runner
from nanotriton.runners.graphs import DETERMINISTIC, GraphUse
from nanotriton.runners.ort import OrtRunner, slots_within
from nanotriton.runners.trt import TrtRunner
from nanotriton.tokenizer import load_tokenizer
from nanotriton.tuned import Choice, read_tuned

IDLE_POLL_MS = 500
BEAT_S = 0.5
LEASTS = {
    "max_slots": 1,
    "threads": 1,
    "stream_interval_ms": 0,
    "step_timeout_ms": 2000,  # a few beats
}
# What `nanotriton tune` may set; None leaves it to the version.
DEFAULTS = {
    "max_slots": 32,
    "prefill_chunk": 256,
    "threads": len(os.sched_getaffinity(0)),
    "max_decode_rows": None,
}
MALFORMED = (ValueError, TypeError, KeyError, AttributeError, msgpack.UnpackException)


class EngineServer:
    """Serves one engine on one socket, on the thread that calls `run`."""

    def __init__(self, engine: Engine, pieces: Pieces, path: Path) -> None:
        self._engine = engine
        self._pieces = pieces
        self._meter = Meter(time.time_ns() - time.monotonic_ns())
        self._path = path
        self._stdin = sys.stdin.fileno()
        self._next_beat_s = 0.0
        self._router: zmq.SyncSocket = zmq.Context.instance().socket(zmq.ROUTER)
        self._outbox = Outbox(self._router)
        path.unlink(missing_ok=True)
        remove_dead_sockets(path.parent)
        self._router.bind(f"ipc://{path}")
        self._poller = zmq.Poller()
        self._poller.register(self._router, zmq.POLLIN)
        self._poller.register(self._stdin, zmq.POLLIN)

    def run(self) -> None:
        """Step while there is work, sleep on the socket while there is none, until stdin ends."""
        os.set_blocking(self._stdin, False)
        os.set_blocking(sys.stdout.fileno(), False)
        while self._beat():
            if not self._engine.has_work:
                self._sleep()
            self._receive()
            self._outbox.flush()
            self._send(self._pieces.take(self._step(), time.monotonic()))

    def close(self) -> None:
        """Take the socket away."""
        self._router.close()
        self._path.unlink(missing_ok=True)

    def _beat(self) -> bool:
        """Twice a second tell the parent that the loop goes round; False when it is gone.

        What it hasn't read yet says so as well. An empty frame finds peers that are gone too.
        """
        if (now := time.monotonic()) < self._next_beat_s:
            return True
        self._next_beat_s = now + BEAT_S
        for peer in {one.request.key[0] for one in self._engine.scheduler.running}:
            self._send_frame(peer, [])
        with contextlib.suppress(OSError):  # it is full, or the parent is gone
            os.write(sys.stdout.fileno(), b"\n")
        try:
            return bool(os.read(self._stdin, 1024))
        except BlockingIOError:  # nothing was written, so nothing was closed
            return True

    def _sleep(self) -> None:
        """Until a frame comes, or the parent is gone."""
        if self._stdin in dict(self._poller.poll(IDLE_POLL_MS)):
            self._next_beat_s = 0.0

    def _step(self) -> list[Event]:
        started = time.monotonic()
        events = self._engine.step()
        now = time.monotonic()
        if self._engine.last_step:
            running = [one.request.key for one in self._engine.scheduler.running]
            self._meter.stepped(self._engine.last_step, now - started, running, events, now)
            self._meter.answered(self._engine.last_graph)
        return events

    def _receive(self) -> None:
        """Handle every frame that has come."""
        while True:
            try:
                peer, frame = self._router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                for message in unpack(frame):
                    self._handle(peer, message)
            except MALFORMED as error:  # a stranger's frame must not end what others wait for
                print(f"engine: a frame was ignored: {error!r}", file=sys.stderr, flush=True)

    def _handle(self, peer: bytes, message: Message) -> None:
        key = (peer, message["id"])
        if message["op"] == "submit":
            try:
                settings = Settings.from_message(message["settings"])
                self._engine.submit(Request(key, tuple(message["prompt"]), settings))
                if message.get("in_pieces", True):
                    self._pieces.stream(key)
                self._meter.submitted(key, len(message["prompt"]), time.monotonic())
            except NanotritonError as error:
                self._meter.refused(error.status)
                self._send([Failure(key, error)])
        elif message["op"] == "cancel":
            events, now_s = self._engine.cancel(key), time.monotonic()
            self._meter.happened(events, now_s)
            self._send(self._pieces.take(events, now_s))
        elif message["op"] == "stats":
            stats = self._engine.stats() | {
                "protocol": PROTOCOL_VERSION,
                "pid": os.getpid(),
                "samples": self._meter.samples(),
            }
            self._send_frame(peer, [{"op": "stats", "id": message["id"], "stats": stats}])
        else:
            unknown = NanotritonError(f"the engine knows no op {message['op']!r}")
            self._send_frame(peer, [failure_message(message["id"], unknown)])

    def _send(self, events: list[Event]) -> None:
        by_peer: dict[bytes, list[Message]] = defaultdict(list)
        for event in events:
            if is_final(event):
                event = replace(event, times=self._meter.take_times(event.key))  # noqa: PLW2901
            by_peer[event.key[0]].append(event_to_message(event))
        for peer, messages in by_peer.items():
            self._send_frame(peer, messages)

    def _send_frame(self, peer: bytes, messages: list[Message]) -> None:
        """Send without waiting; what runs for a peer that is gone, or reads nothing, ends."""
        reception = self._outbox.send(peer, messages)
        if reception is Reception.SENT:
            return
        ended = [event.key[1] for event in self._engine.cancel_peer(peer)]
        self._pieces.drop(peer)
        self._meter.dropped(peer, reception.value)
        if reception is Reception.UNREAD:
            self._outbox.lose(peer, ended)


def main(argv: Sequence[str] | None = None) -> int:
    """Load the model, say so on stdout, and serve."""
    words = sys.argv[1:] if argv is None else argv
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to handle
    try:
        told = words_of(read_settings(os.environ.get(ENVIRONMENT, "").split()))
        args = build_parser().parse_args([*words, *told])
        engine = build_engine(args)
        server = EngineServer(engine, Pieces(args.stream_interval_ms / 1000), args.socket)
    except (NanotritonError, ValueError) as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 1
    try:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that `finally` runs
        ready = {"ready": os.getpid(), "step_timeout_s": args.step_timeout_ms / 1000}
        print(json.dumps(ready), flush=True)
        server.run()
    except DeviceLost as error:
        print(f"engine: {error}", file=sys.stderr, flush=True)
        return 1
    except Exception:  # the process boundary: the supervisor starts a new one
        traceback.print_exc()
        return 1
    finally:
        server.close()
    return 0


def build_engine(args: argparse.Namespace) -> Engine:
    """Load the model that the arguments name; raises ArtifactError when it doesn't fit."""
    fill_settings(args)
    for name, least in LEASTS.items():
        if (value := getattr(args, name)) < least:
            raise ValueError(f"{name} is {value}, the least is {least}")
    manifest = Manifest.load(args.folder)
    tokenizer = load_tokenizer(args.folder)
    if tokenizer.num_tokens != manifest.vocab_size:
        raise TokenizerError(
            f"{args.folder} holds a tokenizer of {tokenizer.num_tokens} tokens and a model of "
            f"{manifest.vocab_size}: export the model with the tokenizer it was trained with"
        )
    runner = _open_runner(args, manifest)
    options = EngineOptions(
        max_waiting=args.max_waiting,
        prefill_chunk=args.prefill_chunk,
        prefix_cache=args.prefix_cache == "on",
        speculation=args.speculation == "on",
        isolate_users=args.isolate_users == "on",
    )
    return Engine(runner, tokenizer, lambda: secrets.randbits(63), time.monotonic, options)


def _open_runner(args: argparse.Namespace, manifest: Manifest) -> Runner:
    """The runner that the version was exported for."""
    if manifest.runner == "trt":
        return TrtRunner(args.folder, args.max_slots, args.kv_cache_bytes)
    num_slots = args.max_slots
    if args.kv_cache_bytes is not None:
        num_slots = min(num_slots, slots_within(args.kv_cache_bytes, manifest))
    use = GraphUse(max_decode_rows=args.max_decode_rows)
    if args.deterministic == "on":
        use = DETERMINISTIC
    use = replace(use, native_attention=args.native_attention == "auto")
    return OrtRunner(args.folder, num_slots, args.threads, use, spinning=args.spinning == "on")


def fill_settings(args: argparse.Namespace) -> None:
    """Where nothing was said, what `nanotriton tune` chose on this machine, else the default."""
    choices: dict[str, Choice] = {}
    try:
        if tuned := read_tuned(args.folder):
            tuned.check(this_machine())
            choices = tuned.choices
    except NanotritonError as error:
        print(f"engine: settings keep their defaults: {error}", file=sys.stderr, flush=True)
    for name, default in DEFAULTS.items():
        if getattr(args, name) is None:
            setattr(args, name, choices[name].value if name in choices else default)


def build_parser() -> argparse.ArgumentParser:
    """The command line, filled from the parameters in gpt/config.pbtxt and the environment."""
    parser = argparse.ArgumentParser(prog="python -m nanotriton.engine.process")
    parser.add_argument("folder", type=Path, help="an exported version, REPOSITORY/gpt/VERSION")
    parser.add_argument("--socket", type=Path, required=True, help="UNIX socket to listen on")
    parser.add_argument(
        "--max-slots",
        type=int,
        help="sequences that run at once, each with a KV slot; default: as tuned, else "
        f"{DEFAULTS['max_slots']}",
    )
    parser.add_argument(
        "--kv-cache-bytes",
        type=int,
        help="memory for the KV slots, which lowers their number; default: no limit but max-slots",
    )
    parser.add_argument(
        "--max-waiting", type=int, default=256, help="requests that may wait for a slot"
    )
    parser.add_argument(
        "--prefill-chunk",
        type=int,
        help="prompt tokens that enter in one step, at most; default: as tuned, else "
        f"{DEFAULTS['prefill_chunk']}",
    )
    _add_switch(parser, "--prefix-cache", "on", "start prompts from what earlier ones left")
    _add_switch(parser, "--speculation", "on", "verify guesses at the text's own repetitions")
    _add_switch(parser, "--isolate-users", "off", "only from what the same `user` left")
    parser.add_argument(
        "--threads",
        type=int,
        help="threads of the runtime; default: as tuned, else one a usable core",
    )
    # Off: threads that spin between nodes take the cores from Triton, see docs/OPERATING.md.
    _add_switch(parser, "--spinning", "off", "let the runtime's threads wait busily in a step")
    _add_switch(parser, "--deterministic", "off", "answer every step, however small, by model.onnx")
    parser.add_argument(
        "--native-attention",
        choices=("auto", "off"),
        default="auto",
        help="attend by nanotriton's own library where it was built; default %(default)s",
    )
    parser.add_argument(
        "--max-decode-rows",
        type=int,
        help="rows of the largest step that a version's second graph answers; default: as tuned, "
        "else as exported",
    )
    parser.add_argument(
        "--stream-interval-ms",
        type=int,
        default=100,  # a text that grows ten times a second reads well
        help="between a stream's pieces; 0: each step's by itself; default %(default)s",
    )
    parser.add_argument(
        "--step-timeout-ms",
        type=int,
        default=60_000,
        help="a step that takes longer hangs: the engine is killed and started again; "
        "default %(default)s",
    )
    return parser


def _add_switch(parser: argparse.ArgumentParser, name: str, default: str, help_text: str) -> None:
    help_text = f"{help_text}; default {default}"
    parser.add_argument(name, choices=("on", "off"), default=default, help=help_text)


if __name__ == "__main__":
    sys.exit(main())
