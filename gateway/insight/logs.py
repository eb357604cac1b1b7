"""The gateway's log: one JSON object a line on stderr, one line for each request.

Comes in: finished requests, and whatever uvicorn and other libraries log. Goes out: lines with
`time` (UTC), `level`, `event` and what belongs to them; docs/GATEWAY.md lists the fields. JSON
escapes control characters, so no header and no prompt can forge a line. Prompts and completions
are logged only where `log_prompts` says so; a traceback is the field `exception` and goes nowhere
else. Knows nothing of HTTP.
"""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

from gateway.messages import Finished, Outcome

MAX_VALUE_CHARS = 512
MAX_EXCEPTION_CHARS = 16_384
LEVELS: Mapping[Outcome, int] = {
    "failed": logging.ERROR,
    "timeout": logging.WARNING,
    "interrupted": logging.WARNING,
}


class RequestLog:
    """One line for each finished request; to be made after `configure_logs`."""

    def __init__(self, *, log_prompts: bool = False) -> None:
        self._log_prompts = log_prompts
        self._log = structlog.stdlib.get_logger("gateway").bind()

    def tell(self, finished: Finished, completion: str | None = None) -> None:
        """Log a request's end; prompt and completion only where the operator wants them."""
        told = fields_of(finished)
        if self._log_prompts:
            told |= {"prompt": finished.request.prompt, "completion": completion}
        self._log.log(LEVELS.get(finished.outcome, logging.INFO), "request", **told)


def fields_of(finished: Finished) -> dict[str, object]:
    """What a request's line holds, beside time, level and event."""
    request, caller, served, times = (
        *(finished.request, finished.caller, finished.served, finished.times),
    )
    told = {
        "request_id": request.id,
        "key": caller.prefix if caller else None,
        "route": served.backend if served else None,
        "model": served.model if served else None,
        "version": served.version if served else None,
        "outcome": finished.outcome,
        "stream": request.stream,
        "prompt_tokens": finished.usage.prompt_tokens,
        "completion_tokens": finished.usage.completion_tokens,
        "first_text_ms": _ms(times.first_text_s),
        "total_ms": _ms(times.total_s),
        "error": finished.error,
    }
    return {name: value for name, value in told.items() if value is not None}


def configure_logs(stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Send this process's whole log, that of libraries too, to `stream` (stderr) as JSON lines.

    uvicorn must be told `log_config=None`, or it brings handlers of its own.
    """
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
        _arrange,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(default=_cut),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.captureWarnings(True)


def _arrange(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Time first; long values cut, whoever sent them, but for what the operator asked to see."""
    told = {name: event.pop(name) for name in ("time", "level", "event") if name in event}
    for name, value in (*told.items(), *event.items()):
        if isinstance(value, str) and name not in {"prompt", "completion"}:
            limit = MAX_EXCEPTION_CHARS if name == "exception" else MAX_VALUE_CHARS
            told[name] = _cut(value, limit)
        else:
            told[name] = value
    return told


def _cut(value: object, limit: int = MAX_VALUE_CHARS) -> str:
    text = str(value)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
