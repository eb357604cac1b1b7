"""A stand-in for the part of `cuda.bindings.runtime` that nanotriton uses.

Names, arguments and answers, (error, value) or (error,), are those of cuda-bindings 12.9 and are
held against it by a test where it is installed. Stricter than CUDA: copies from and to the host
want pinned memory.
"""

from enum import IntEnum
from types import SimpleNamespace

from gpu_memory import GPU, Stream

cudaStreamNonBlocking = 1


class cudaError_t(IntEnum):
    """The errors that this stand-in gives."""

    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInvalidPitchValue = 12
    cudaErrorInvalidResourceHandle = 400
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901


class cudaMemcpyKind(IntEnum):
    """Which way a copy goes."""

    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class cudaStreamCaptureMode(IntEnum):
    """What else is forbidden while a stream is captured."""

    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1


OK = cudaError_t.cudaSuccess
INVALID = cudaError_t.cudaErrorInvalidValue
NO_HANDLE = cudaError_t.cudaErrorInvalidResourceHandle
MEMORY_BYTES = 1 << 32
PROPERTIES = SimpleNamespace(name=b"no GPU: a stand-in on the CPU", major=8, minor=0)
ENDS = {  # target and source of a copy
    cudaMemcpyKind.cudaMemcpyHostToDevice: ("device", "pinned"),
    cudaMemcpyKind.cudaMemcpyDeviceToHost: ("pinned", "device"),
    cudaMemcpyKind.cudaMemcpyDeviceToDevice: ("device", "device"),
}


class Handle:
    """A stream, graph or executable graph: an opaque object whose int is its number."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __int__(self) -> int:
        return self._number


def cudaGetErrorString(error):
    """Words for an error."""
    return OK, error.name.removeprefix("cudaError").encode()


def cudaGetDeviceCount():
    """One GPU."""
    return OK, 1


def cudaGetDeviceProperties(device):
    """What it calls itself."""
    return (OK, PROPERTIES) if device == 0 else (INVALID, None)


def cudaMalloc(size):
    """Device memory, never written."""
    return _allocate(size, "device")


def cudaMallocHost(size):
    """Pinned host memory, never written."""
    return _allocate(size, "pinned")


def cudaFree(devPtr):
    """Waits for the device, as CUDA does."""
    for stream in GPU.streams.values():
        GPU.finish(stream)
    return (_state() or (OK if GPU.free(devPtr, "device") else INVALID),)


def cudaFreeHost(ptr):
    """Gives pinned memory back."""
    return (_state() or (OK if GPU.free(ptr, "pinned") else INVALID),)


def cudaMemsetAsync(devPtr, value, count, stream):
    """Fills device memory, later."""

    def work():
        GPU.bytes_at(devPtr, count, "device")[:] = value

    return _put(stream, work)


def cudaMemcpyAsync(dst, src, count, kind, stream):
    """Copies, later."""
    return cudaMemcpy2DAsync(dst, count, src, count, count, 1, kind, stream)


def cudaMemcpy2DAsync(dst, dpitch, src, spitch, width, height, kind, stream):  # noqa: PLR0917
    """Copies rows, later."""
    if not isinstance(kind, cudaMemcpyKind):
        raise TypeError(f"Argument 'kind' has incorrect type {type(kind)}")
    if width > dpitch or width > spitch:
        return (cudaError_t.cudaErrorInvalidPitchValue,)
    target_kind, source_kind = ENDS[kind]

    def work():
        for row in range(height):
            source = GPU.bytes_at(src + row * spitch, width, source_kind)
            GPU.bytes_at(dst + row * dpitch, width, target_kind)[:] = source

    return _put(stream, work)


def cudaStreamCreateWithFlags(flags):
    """A new stream."""
    if flags != cudaStreamNonBlocking:
        return INVALID, None
    handle = Handle(GPU.new_handle())
    GPU.streams[int(handle)] = Stream()
    return OK, handle


def cudaStreamSynchronize(stream):
    """Does what waits; forbidden while the stream is captured."""
    if (found := GPU.streams.get(int(stream))) is None:
        return (NO_HANDLE,)
    if found.captured is not None:
        found.is_capture_broken = True
        return (cudaError_t.cudaErrorStreamCaptureUnsupported,)
    GPU.finish(found)
    return (_state() or OK,)


def cudaStreamDestroy(stream):
    """Does what waits, then forgets the stream."""
    if (found := GPU.streams.pop(int(stream), None)) is None:
        return (NO_HANDLE,)
    GPU.finish(found)
    return (_state() or OK,)


def cudaStreamBeginCapture(stream, mode):
    """What is put on the stream from now on is only recorded."""
    if not isinstance(mode, cudaStreamCaptureMode):
        raise TypeError(f"Argument 'mode' has incorrect type {type(mode)}")
    found = GPU.streams.get(int(stream))
    if found is None or found.captured is not None:
        return (INVALID,)
    found.captured, found.is_capture_broken = [], False
    return (_state() or OK,)


def cudaStreamEndCapture(stream):
    """The graph, or an error when something forbidden happened meanwhile."""
    found = GPU.streams.get(int(stream))
    if found is None or found.captured is None:
        return INVALID, None
    work, found.captured = found.captured, None
    if found.is_capture_broken:
        return cudaError_t.cudaErrorStreamCaptureInvalidated, None
    graph = Handle(GPU.new_handle())
    GPU.graphs[int(graph)] = work
    return OK, graph


def cudaGraphInstantiate(graph, flags):
    """An executable copy, which outlives the graph."""
    if flags or int(graph) not in GPU.graphs:
        return INVALID, None
    executable = Handle(GPU.new_handle())
    GPU.graphs[int(executable)] = list(GPU.graphs[int(graph)])
    return OK, executable


def cudaGraphLaunch(graphExec, stream):
    """Puts all of a graph's work on a stream, with the addresses that it was recorded with."""
    if (work := GPU.graphs.get(int(graphExec))) is None:
        return (INVALID,)

    def replay():
        for one in work:
            one()

    return _put(stream, replay)


def cudaGraphDestroy(graph):
    """Forgets a graph."""
    return (OK if GPU.graphs.pop(int(graph), None) is not None else INVALID,)


cudaGraphExecDestroy = cudaGraphDestroy


def _allocate(size, kind):
    if error := _state():
        return error, None
    if any(stream.captured is not None for stream in GPU.streams.values()):
        for stream in GPU.streams.values():
            stream.is_capture_broken = True
        return cudaError_t.cudaErrorStreamCaptureUnsupported, None
    if sum(block.size for block in GPU.allocations.values()) + size > MEMORY_BYTES:
        return cudaError_t.cudaErrorMemoryAllocation, None
    return OK, GPU.allocate(size, kind)


def _put(stream, work):
    if (found := GPU.streams.get(int(stream))) is None:
        return (NO_HANDLE,)
    if error := _state():
        return (error,)
    found.put(work)
    return (OK,)


def _state():
    """The error that everything gives once work went wrong on the device."""
    return cudaError_t.cudaErrorIllegalAddress if GPU.is_lost else None
