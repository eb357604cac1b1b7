"""One of a plan's two profiles, prefill or decode: tokens and slots in, candidates out.

It owns the profile's execution context and its inputs and outputs, and knows where the KV slots
lie. Knows nothing of which step comes next.
"""

import sys
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nanotriton import contract
from nanotriton.errors import RunnerError
from nanotriton.runners.base import Candidates
from nanotriton.runners.cuda import CapturedWork, Device
from nanotriton.runners.kv_memory import KVMemory
from nanotriton.runners.mirror import Entry, Mirror
from nanotriton.runners.plan import Plan

# Recorded steps that are kept, one for each number of rows and first slot; with 12 layers each is
# some hundred kernels.
MAX_CAPTURED = 64
LOGITS = contract.GRAPH_LOGITS


@dataclass(frozen=True, slots=True)
class Step:
    """What a context is bound to: T tokens for B slots from `first_slot` on, R rows of logits."""

    first_slot: int
    num_sequences: int
    num_tokens: int
    num_rows: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """T tokens for each of B slots from `first_slot` on, behind those that they hold.

    input_ids     (B, T) int64
    past_lengths  (B,) int32
    """

    first_slot: int
    input_ids: NDArray[np.int64]
    past_lengths: NDArray[np.int32]


class Phase:
    """The steps of one profile; with `captures` each is recorded when it first runs."""

    def __init__(
        self, device: Device, plan: Plan, profile: int, memory: KVMemory, captures: bool
    ) -> None:
        self._device = device
        self._memory = memory
        self._captures = captures
        self._captured: OrderedDict[Step, CapturedWork] = OrderedDict()
        self.max_sequences, self.max_tokens = plan.limits(contract.GRAPH_INPUT_IDS, profile)
        (self.max_rows,) = plan.limits(contract.GRAPH_ROWS, profile)
        num_candidates = plan.shape(contract.GRAPH_TOP_LOGITS)[1]
        vocab_size = plan.shape(LOGITS)[1]
        tokens = Entry((self.max_sequences * self.max_tokens,), np.int64)
        self._inputs = Mirror(
            device,
            {
                contract.GRAPH_INPUT_IDS: tokens,
                contract.GRAPH_POSITION_IDS: tokens,
                contract.GRAPH_WRITE_INDICES: Entry((self.max_sequences,), np.int64),
                contract.GRAPH_ROWS: Entry((self.max_rows,), np.int64),
            },
        )
        self._outputs = Mirror(
            device,
            {
                contract.GRAPH_TOP_LOGITS: Entry((self.max_rows, num_candidates), np.float32),
                contract.GRAPH_TOP_TOKENS: Entry((self.max_rows, num_candidates), np.int64),
                contract.GRAPH_LSE: Entry((self.max_rows,), np.float32),
            },
        )
        # All logits stay on the device until somebody asks for them.
        self._logits = device.allocate(self.max_rows * vocab_size * 4)
        self._logits_shape = (self.max_rows, vocab_size)
        self._host_logits: NDArray[np.float32] | None = None
        self._context = plan.open_context(profile)
        places = self._inputs.addresses | self._outputs.addresses | {LOGITS: self._logits}
        for name, address in places.items():
            self._context.set_address(name, address)

    def start(self, tokens: Tokens, rows: NDArray[np.int64], full_logits: bool) -> None:
        """Put a step on the stream; its candidates are there once the device is synchronized."""
        num_sequences, num_tokens = tokens.input_ids.shape
        step = Step(tokens.first_slot, num_sequences, num_tokens, len(rows))
        self._fill(tokens, rows)
        if captured := self._captured.get(step):
            self._captured.move_to_end(step)
            self._device.replay(captured)
        else:
            self._bind(step)
            self._enqueue()
            if self._captures:
                self._capture(step)
        if full_logits:
            self._device.to_host(self._full_view()[: len(rows)], self._logits)

    def candidates(self, rows: NDArray[np.int64], full_logits: bool) -> Candidates:
        """Some rows of what the step just done brought, in the order of its own `rows`."""
        top, tokens, lse = self._outputs.host.values()
        full = self._full_view()[rows] if full_logits else None
        return Candidates(top[rows], tokens[rows], lse[rows], full)

    def _fill(self, tokens: Tokens, rows: NDArray[np.int64]) -> None:
        host, size = self._inputs.host, tokens.input_ids.size
        positions = tokens.past_lengths[:, None] + np.arange(tokens.input_ids.shape[1])  # (B, T)
        host[contract.GRAPH_INPUT_IDS][:size] = tokens.input_ids.ravel()
        # A dead row of a full slot has no position of its own left; nobody reads what it computes.
        last = self._memory.layout.context - 1
        host[contract.GRAPH_POSITION_IDS][:size] = np.minimum(positions, last).ravel()
        host[contract.GRAPH_WRITE_INDICES][: len(positions)] = tokens.past_lengths
        host[contract.GRAPH_ROWS][: len(rows)] = rows

    def _bind(self, step: Step) -> None:
        tokens = (step.num_sequences, step.num_tokens)
        self._context.set_shape(contract.GRAPH_INPUT_IDS, tokens)
        self._context.set_shape(contract.GRAPH_POSITION_IDS, tokens)
        self._context.set_shape(contract.GRAPH_WRITE_INDICES, (step.num_sequences,))
        self._context.set_shape(contract.GRAPH_ROWS, (step.num_rows,))
        layout = self._memory.layout
        slots = (layout.num_heads, layout.num_positions, layout.head_dim)
        cache = (step.num_sequences, *slots)  # (B, H, M, D)
        for layer in range(layout.num_layers):
            for index, kind in enumerate(("k", "v")):
                address = self._memory.address(layer, index, step.first_slot)
                self._context.set_shape(contract.past_name(layer, kind), cache)
                self._context.set_address(contract.past_name(layer, kind), address)
                self._context.set_address(contract.present_name(layer, kind), address)

    def _enqueue(self) -> None:
        self._inputs.push()
        self._context.enqueue(self._device.stream)
        self._outputs.pull()

    def _capture(self, step: Step) -> None:
        """Record the step that was just enqueued, which TensorRT wants to have seen once.

        Not every plan can be recorded: one that can't is launched kernel by kernel.
        """
        try:
            self._captured[step] = self._device.capture(self._enqueue)
        except RunnerError as error:
            self._captures = False
            print(f"runner trt: steps can't be recorded ({error}): slower", file=sys.stderr)
            return
        if len(self._captured) > MAX_CAPTURED:
            _, oldest = self._captured.popitem(last=False)
            self._device.synchronize()
            self._device.forget(oldest)

    def _full_view(self) -> NDArray[np.float32]:
        if self._host_logits is None:
            self._host_logits = self._device.allocate_pinned(self._logits_shape, np.float32)
        return self._host_logits
