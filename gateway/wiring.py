"""What a gateway is made of: every stage built from the configuration, in one place.

Comes in: a Config. Goes out: Parts. Nothing is opened here that must be closed, save what is put
into `closing`; what needs the event loop begins with its first use. Knows nothing of HTTP.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from fastapi import APIRouter

from gateway.canary import Canary
from gateway.config import BackendAddress, Config
from gateway.errors import NotFound
from gateway.insight.logs import RequestLog
from gateway.insight.metrics import Metrics
from gateway.insight.observer import Insight
from gateway.insight.traces import traces_to
from gateway.messages import Caller, CompletionRequest
from gateway.service import Service
from gateway.stages import Stages
from gateway.upstream import Upstream


@dataclass(slots=True)
class Parts:
    """One gateway; routes find it as `app.state.parts`."""

    config: Config
    stages: Stages
    service: Service
    canary: Canary
    metrics: Metrics
    routers: Sequence[APIRouter] = ()  # of stages that have paths of their own
    closing: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    is_draining: bool = False


def build_parts(config: Config) -> Parts:
    """Every stage; the place to add one."""
    upstream, metrics = Upstream(), Metrics()
    traces = traces_to(config.trace_url, config.trace_rate)
    insight = Insight(metrics, RequestLog(log_prompts=config.log_prompts))
    stages = Stages(routes=FirstBackend(config), traces=traces, observers=(insight,))
    stages.on_refusal = metrics.refused
    service = Service(stages, upstream)
    metrics.watch_requests(lambda: service.num_running)
    canary = Canary(upstream, stages.routes, config.canary_ttl_s)
    closing: list[Callable[[], Awaitable[None]]] = [upstream.close]
    closing.append(partial(asyncio.to_thread, traces.close))
    return Parts(config, stages, service, canary, metrics, closing=closing)


@dataclass(frozen=True, slots=True)
class FixedBackend:
    """A backend as the command line names it."""

    name: str
    url: str
    model: str
    version: str = "1"
    precision: str = "unknown"


class FirstBackend:
    """Routes without any choice: the first backend answers everybody."""

    def __init__(self, config: Config) -> None:
        self._backends = [self._made(one, config.model) for one in config.backends]

    @staticmethod
    def _made(address: BackendAddress, model: str) -> FixedBackend:
        return FixedBackend(address.name, address.url, model)

    def pick(self, caller: Caller, request: CompletionRequest) -> FixedBackend:
        """Raises NotFound for a model that isn't there."""
        del caller
        first = self._backends[0]
        if request.model not in (None, first.model):
            raise NotFound(
                f"the model {request.model!a} isn't there: ask for {first.model}, or leave it out",
                param="model",
                code="model_not_found",
            )
        return first

    def shadow(self, caller: Caller, request: CompletionRequest) -> None:
        """Nobody gets a copy."""

    def backends(self) -> Sequence[FixedBackend]:
        """All that were named."""
        return self._backends
