"""One gateway process: uvicorn with its limits, and a stop that loses nobody.

Comes in: a Config. Goes out: an exit code. On SIGTERM or SIGINT it says "not ready" and takes no
new work; after `drain_delay_s`, in which load balancers look elsewhere, the door closes, what runs
may end, and the process ends. A second signal ends it at once.
"""

import asyncio
import logging
import signal
import socket
import sys
from types import FrameType

import uvicorn

from gateway.app import build_app
from gateway.config import Config
from gateway.connections import allow_files
from gateway.errors import ConfigError
from gateway.http_protocol import protocol_of
from gateway.insight.logs import configure_logs
from gateway.wiring import Parts

_LOG = logging.getLogger("gateway")
KEEP_ALIVE_S = 30
BACKLOG = 1024


def serve(config: Config) -> int:
    """Serve until a signal; 0 after a stop in good order."""
    configure_logs()
    app = build_app(config)
    # For a signal before uvicorn listens to them, and for those that it raises again at its end.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    parts: Parts = app.state.parts
    try:
        allow_files(parts.connections.limits)
    except ValueError as error:
        raise ConfigError(f"--max-connections: {error}") from error
    server = DrainingServer(server_config(app, parts), parts)
    server.run([bound_socket(config.host, config.port)])
    if not server.started:
        raise ConfigError("the gateway could not start: its log above says why")
    return 0


def bound_socket(host: str, port: int) -> socket.socket:
    """Where uvicorn is to listen; raises ConfigError. uvicorn itself ends the process instead."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise ConfigError(
            f"{host}:{port} can't be listened on ({error.strerror}): stop what has it, or give "
            "another --host or --port"
        ) from None
    return bound


def server_config(app: object, parts: Parts) -> uvicorn.Config:
    """Uvicorn's settings; it writes no access log, for every request is told of elsewhere."""
    config = parts.config
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        loop="uvloop",
        http=protocol_of(parts.connections),
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(config.limits.max_timeout_s) + 5,
    )


class DrainingServer(uvicorn.Server):
    """Uvicorn that drains before it closes its door."""

    def __init__(self, config: uvicorn.Config, parts: Parts) -> None:
        super().__init__(config)
        self._parts = parts
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Bind, and say where."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        for one in self.servers:
            host, port = one.sockets[0].getsockname()[:2]
            say(f"listening on http://{host}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: stop taking work now, close the door later."""
        if self._parts.is_draining or self._loop is None:
            super().handle_exit(sig, frame)
            return
        self._parts.is_draining = True
        say(f"stopping: {self._parts.service.num_running} requests may end")
        delay_s = self._parts.config.drain_delay_s
        close = super().handle_exit
        self._loop.call_soon_threadsafe(self._loop.call_later, delay_s, close, sig, None)


def say(message: str) -> None:
    """One line of the log."""
    _LOG.info(message)
