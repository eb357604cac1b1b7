"""A TensorRT plan opened: model.plan in, its tensors and an execution context a profile out.

`tensorrt` is imported when the first plan is opened, and nowhere else. Whatever it refuses is a
RunnerError with TensorRT's own words. Knows nothing of KV slots or of steps.
"""

import functools
from collections import deque
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from nanotriton.errors import RunnerError
from nanotriton.manifest import PlanTarget
from nanotriton.runners.cuda import Device, Gpu, find_gpu, import_gpu_library
from nanotriton.runners.plan_header import check_plan, servable_header

PREFILL, DECODE = 0, 1  # the plan's optimization profiles


def check_here(path: Path, target: PlanTarget, gpu: Gpu | None = None) -> ModuleType:
    """TensorRT's module; raises RunnerError unless it opens a plan on `gpu`, or the first one."""
    header = servable_header(path)  # a wrong file is told before what else may be missing
    trt = import_gpu_library("tensorrt", f"tensorrt=={header.version}")
    gpu = gpu or find_gpu()
    check_plan(path, target, trt.__version__, gpu.compute_capability)
    return trt


class Plan:
    """A plan opened for one device; raises RunnerError when it was built for another machine."""

    def __init__(self, path: Path, target: PlanTarget, device: Device) -> None:
        self._trt = check_here(path, target, device.gpu)
        self._log = _error_log(self._trt)
        self._runtime = self._trt.Runtime(self._log)
        self._device = device
        self.engine: Any = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self.engine is None:
            raise self.failure(f"TensorRT {self._trt.__version__} can't open {path}")
        if (found := self.engine.num_optimization_profiles) != 2:
            raise RunnerError(
                f"{path} has {found} optimization profiles, the runner needs one for prefill and "
                "one for decode: build it again with `python -m export plan --kv static`"
            )

    def limits(self, name: str, profile: int) -> tuple[int, ...]:
        """The largest shape of an input in a profile."""
        return tuple(self.engine.get_tensor_profile_shape(name, profile)[2])

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, -1 where it depends on the step."""
        return tuple(self.engine.get_tensor_shape(name))

    def dtype(self, name: str) -> "np.dtype[Any]":
        """A tensor's type."""
        return np.dtype(self._trt.nptype(self.engine.get_tensor_dtype(name)))

    def open_context(self, profile: int) -> "Context":
        """An execution context that stays in one profile."""
        context = self.engine.create_execution_context()
        if context is None or not context.set_optimization_profile_async(
            profile, self._device.stream
        ):
            raise self.failure(f"TensorRT can't make a context for profile {profile}")
        self._device.synchronize()
        return Context(context, self)

    def failure(self, words: str) -> RunnerError:
        """What TensorRT said last, behind `words`."""
        said = self._log.errors[-1] if self._log.errors else "it said nothing more"
        return RunnerError(f"{words}: {said}")


class Context:
    """An execution context whose every refusal is a RunnerError."""

    def __init__(self, context: Any, plan: Plan) -> None:
        self._context = context
        self._plan = plan

    def set_shape(self, name: str, shape: tuple[int, ...]) -> None:
        """The shape of an input in the next steps."""
        if not self._context.set_input_shape(name, shape):
            raise self._plan.failure(f"TensorRT refused the shape {shape} of {name}")

    def set_address(self, name: str, address: int) -> None:
        """Where an input or output lies on the device."""
        if not self._context.set_tensor_address(name, address):
            raise self._plan.failure(f"TensorRT refused the address of {name}")

    def enqueue(self, stream: int) -> None:
        """Put one run on a stream."""
        if not self._context.execute_async_v3(stream):
            raise self._plan.failure("TensorRT refused a step")


@functools.cache
def _error_log(trt: ModuleType) -> Any:
    """The one logger of this process, as TensorRT wants it; it keeps what went wrong last."""
    severe = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR)

    class ErrorLog(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=1)

        def log(self, severity: Any, message: str) -> None:
            if severity in severe:
                self.errors.append(message.strip().split("\n", 1)[0][:300])

    return ErrorLog()
