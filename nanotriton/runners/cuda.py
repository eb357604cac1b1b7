"""One NVIDIA GPU through CUDA's own runtime: memory, copies, one stream and captured graphs.

Comes in: sizes, addresses and NumPy arrays. Goes out: addresses on the device, pinned arrays, and
a RunnerError in one sentence for whatever CUDA refuses. Everything but `synchronize` returns at
once: what was asked for happens on the stream, in that order. Knows nothing of models or of
TensorRT. `cuda-bindings` is imported when the first device is opened, and nowhere else.
"""

import ctypes
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nanotriton.errors import DeviceLost, RunnerError

CUDA_MODULE = "cuda.bindings.runtime"
CapturedWork: TypeAlias = Any  # a cudaGraphExec_t


def import_gpu_library(module: str, package: str) -> ModuleType:
    """A library that only machines with a GPU have; raises RunnerError with the pip command."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise RunnerError(
            f"the runner trt needs {module}, which can't be imported here ({error}): run "
            f"`pip install {package}` on a machine with an NVIDIA GPU, or export the model for the "
            "runner ort"
        ) from None


@dataclass(frozen=True, slots=True)
class Gpu:
    """What a GPU is; `compute_capability` has no dot ("80")."""

    name: str
    compute_capability: str


def find_gpu() -> Gpu:
    """The first GPU that CUDA shows (CUDA_VISIBLE_DEVICES chooses); takes none of its memory.

    Raises RunnerError when there is none, or no library or driver to reach it with.
    """
    cuda = import_gpu_library(CUDA_MODULE, "cuda-bindings")
    if not _checked(cuda, "cudaGetDeviceCount"):
        raise RunnerError("CUDA shows no GPU: the runner trt needs one, the runner ort does not")
    properties = _checked(cuda, "cudaGetDeviceProperties", 0)
    name = properties.name.decode().rstrip("\0")
    return Gpu(name, f"{properties.major}{properties.minor}")


class Device:
    """The GPU that `find_gpu` finds, with a stream of its own; raises what that raises."""

    def __init__(self) -> None:
        self.gpu = find_gpu()
        self._cuda = importlib.import_module(CUDA_MODULE)
        self._stream = self._call("cudaStreamCreateWithFlags", self._cuda.cudaStreamNonBlocking)
        self._kinds = self._cuda.cudaMemcpyKind
        self._allocations: list[tuple[str, int]] = []

    @property
    def stream(self) -> int:
        """The stream's handle, for other libraries."""
        return int(self._stream)

    def allocate(self, num_bytes: int) -> int:
        """Zeroed memory on the device; its address is a multiple of 256."""
        try:
            address = int(self._call("cudaMalloc", num_bytes))
        except RunnerError as error:
            raise RunnerError(
                f"the GPU has no {num_bytes / 1e6:.0f} MB left: lower max_slots or kv_cache_bytes "
                f"in gpt/config.pbtxt, or end what else uses it ({error})"
            ) from None
        self._allocations.append(("cudaFree", address))
        self._call("cudaMemsetAsync", address, 0, num_bytes, self._stream)
        return address

    def allocate_pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array in host memory that copies reach without a detour; valid until `close`."""
        num_bytes = prod(shape) * np.dtype(dtype).itemsize
        address = int(self._call("cudaMallocHost", num_bytes))
        self._allocations.append(("cudaFreeHost", address))
        memory = (ctypes.c_ubyte * num_bytes).from_address(address)
        return np.ctypeslib.as_array(memory).view(dtype).reshape(shape)

    def to_device(self, target: int, source: NDArray[Any]) -> None:
        """Copy a pinned array to an address on the device."""
        kind = self._kinds.cudaMemcpyHostToDevice
        self._copy(target, source.ctypes.data, source.nbytes, kind)

    def to_host(self, target: NDArray[Any], source: int) -> None:
        """Fill a pinned array from an address on the device."""
        kind = self._kinds.cudaMemcpyDeviceToHost
        self._copy(target.ctypes.data, source, target.nbytes, kind)

    def copy_rows(
        self, target: int, source: int, *, row_bytes: int, pitch_bytes: int, num_rows: int
    ) -> None:
        """Copy the first bytes of rows that lie `pitch_bytes` apart, on the device."""
        kind = self._kinds.cudaMemcpyDeviceToDevice
        places = (target, pitch_bytes, source, pitch_bytes)
        self._call("cudaMemcpy2DAsync", *places, row_bytes, num_rows, kind, self._stream)

    def synchronize(self) -> None:
        """Wait until all that was asked for has happened.

        Raises DeviceLost when it failed: such an error stays with the process (CUDA Runtime API,
        cudaErrorIllegalAddress: "to continue using CUDA, the process must be terminated").
        """
        try:
            self._call("cudaStreamSynchronize", self._stream)
        except RunnerError as error:
            raise DeviceLost(f"{error}; only a new process can use the GPU again") from None

    def capture(self, work: Callable[[], None]) -> CapturedWork:
        """Record what `work` puts on the stream, without doing it."""
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self._stream, mode)
        try:
            work()
        except BaseException:
            self._cuda.cudaStreamEndCapture(self._stream)  # whose error only says that it failed
            raise
        graph = self._call("cudaStreamEndCapture", self._stream)
        captured = self._call("cudaGraphInstantiate", graph, 0)
        self._call("cudaGraphDestroy", graph)
        return captured

    def replay(self, captured: CapturedWork) -> None:
        """Do what was recorded, in one launch."""
        self._call("cudaGraphLaunch", captured, self._stream)

    def forget(self, captured: CapturedWork) -> None:
        """Free what a recording takes."""
        self._call("cudaGraphExecDestroy", captured)

    def close(self) -> None:
        """Give all memory back; arrays and addresses mean nothing afterwards."""
        while self._allocations:
            self._call(*self._allocations.pop())
        self._call("cudaStreamDestroy", self._stream)

    def _copy(self, target: int, source: int, num_bytes: int, kind: object) -> None:
        self._call("cudaMemcpyAsync", target, source, num_bytes, kind, self._stream)

    def _call(self, name: str, *arguments: object) -> Any:
        return _checked(self._cuda, name, *arguments)


def _checked(cuda: ModuleType, name: str, *arguments: object) -> Any:
    """What a function of CUDA's runtime gives; each answers (error, value) or (error,)."""
    error, *values = getattr(cuda, name)(*arguments)
    if error != cuda.cudaError_t.cudaSuccess:
        _, words = cuda.cudaGetErrorString(error)
        raise RunnerError(f"CUDA failed in {name}: {error.name} ({words.decode()})")
    return values[0] if values else None
