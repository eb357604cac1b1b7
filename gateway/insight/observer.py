"""The observer that metrics, log and traces are told through, at each request's end.

Comes in: finished requests and their traces. Goes out: nothing; a fault of its own is logged and
costs the request nothing. Knows nothing of how requests are served.
"""

import logging

from gateway.insight.logs import RequestLog
from gateway.insight.metrics import Metrics
from gateway.messages import Caller, CompletionRequest, Finished, Served
from gateway.stages import Trace

_LOG = logging.getLogger("gateway")


class Insight:
    """Tells what became of every request."""

    def __init__(self, metrics: Metrics, log: RequestLog) -> None:
        self._metrics = metrics
        self._log = log

    def begin(self, caller: Caller, request: CompletionRequest, served: Served) -> None:
        """Nothing is told before the end."""

    def finish(self, finished: Finished, trace: Trace | None) -> None:
        """Count it, log it, end its span."""
        try:
            self._metrics.observe(finished)
            self._log.tell(finished)
            if trace:
                trace.end(finished)
        except Exception:  # it stands between an answer and its last byte
            _LOG.exception("a request couldn't be told of")
