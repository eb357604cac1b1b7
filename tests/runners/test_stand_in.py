"""The stand-in is as strict as the GPU that it stands for; else what runs on it proves little."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from plans import HAS_TENSORRT

from nanotriton.errors import DeviceLost, RunnerError
from nanotriton.runners.cuda import Device

pytestmark = pytest.mark.skipif(HAS_TENSORRT, reason="this machine has TensorRT itself")
LEAST = {"cache": [1, 8, 4], "new": [1, 1, 4], "at": [1]}
SHAPES = {"cache": (2, 8, 4), "new": (2, 1, 4), "at": (2,)}
SIZES = {"cache": 256, "new": 32, "at": 16, "all": 256, "sum": 32}


def cache_model():
    """A cache that is written in place, and the sum of its positions."""
    shape, small = ["B", 8, 4], ["B", "T", 4]
    graph = helper.make_graph(
        [
            helper.make_node("TensorScatter", ["cache", "new", "at"], ["all"], axis=1),
            helper.make_node("ReduceSum", ["all", "axis"], ["sum"], keepdims=0),
        ],
        "cache",
        [
            helper.make_tensor_value_info("cache", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("new", TensorProto.FLOAT, small),
            helper.make_tensor_value_info("at", TensorProto.INT64, ["B"]),
        ],
        [
            helper.make_tensor_value_info("all", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["B", 4]),
        ],
        [helper.make_tensor("axis", TensorProto.INT64, [1], [1])],
    )
    opsets = [helper.make_opsetid("", 24)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=11).SerializeToString()


@pytest.fixture
def device(gpu):  # noqa: ARG001 (it must be there first)
    return Device()


@pytest.fixture
def said():
    """What the context's logger was told."""
    return []


@pytest.fixture
def context(trt, said):
    """An execution context of `cache_model`, whose batch is 1 to 3."""

    class Log(trt.ILogger):
        def log(self, _severity, msg):
            said.append(msg)

    largest = {"cache": [3, 8, 4], "new": [3, 1, 4], "at": [3]}
    profile = {name: [least, largest[name], largest[name]] for name, least in LEAST.items()}
    plan = trt.PlanBytes([profile], cache_model()).pack()
    return trt.Runtime(Log()).deserialize_cuda_engine(plan).create_execution_context()


@pytest.fixture
def bound(context, device):
    """The context with every shape and address as it should be; addresses by name."""
    for name, shape in SHAPES.items():
        assert context.set_input_shape(name, shape)
    addresses = {name: device.allocate(size) for name, size in SIZES.items()}
    addresses["all"] = addresses["cache"]
    for name, address in addresses.items():
        assert context.set_tensor_address(name, address)
    return addresses


def write(device, address, values):
    pinned = device.allocate_pinned(values.shape, values.dtype)
    pinned[:] = values
    device.to_device(address, pinned)


def read(device, address, shape):
    pinned = device.allocate_pinned(shape, np.float32)
    device.to_host(pinned, address)
    return pinned


def test_cache_is_updated_in_place(context, bound, device):
    write(device, bound["new"], np.full((2, 1, 4), 3, np.float32))
    write(device, bound["at"], np.array([0, 7]))
    for _ in range(2):
        assert context.execute_async_v3(device.stream)
    found = read(device, bound["cache"], (2, 8, 4))
    device.synchronize()
    assert found.sum() == 24
    assert found[1, 7, 0] == found[0, 0, 0] == 3


def test_nothing_has_happened_before_the_stream_is_synchronized(context, bound, device):
    write(device, bound["new"], np.full((2, 1, 4), 3, np.float32))
    assert context.execute_async_v3(device.stream)
    found = read(device, bound["sum"], (2, 4))
    assert np.isnan(found).all()
    device.synchronize()
    np.testing.assert_array_equal(found, np.full((2, 4), 3))


@pytest.mark.parametrize(
    ("name", "shape"),
    [("new", (4, 1, 4)), ("new", (0, 1, 4)), ("new", (2, 1, 5)), ("at", (2, 1)), ("sum", (2, 4))],
    ids=["too many", "too few", "fixed axis", "rank", "output"],
)
def test_shape_outside_the_profile_is_refused(context, said, name, shape):
    assert not context.set_input_shape(name, shape)
    assert said


@pytest.mark.usefixtures("bound")
def test_run_without_all_shapes_or_addresses_is_refused(context, said, device):
    assert context.set_optimization_profile_async(0, device.stream)  # forgets the shapes
    assert not context.execute_async_v3(device.stream)
    assert "shapes of ['cache', 'new', 'at'] have not been set" in said[-1]
    for name, shape in SHAPES.items():
        context.set_input_shape(name, shape)
    context.set_tensor_address("sum", 0)
    assert not context.execute_async_v3(device.stream)
    assert "Address is not set for tensors ['sum']" in said[-1]


@pytest.mark.usefixtures("bound")
def test_past_and_present_at_two_addresses_are_refused(context, said, device):
    context.set_tensor_address("all", device.allocate(256))
    assert not context.execute_async_v3(device.stream)
    assert "must share one address" in said[-1]


def test_crooked_or_unknown_address_is_refused(context, bound, said):
    assert not context.set_tensor_address("sum", bound["sum"] + 32)
    assert "not aligned" in said[-1]
    assert not context.set_tensor_address("total", bound["sum"])


@pytest.mark.usefixtures("bound")
def test_default_stream_is_refused(context):
    assert not context.execute_async_v3(0)


@pytest.mark.usefixtures("bound")
@pytest.mark.parametrize("name", ["cache", "sum"])
def test_memory_that_is_too_small_breaks_the_device(context, device, name):
    small = device.allocate(16)
    for tensor in [name, *({"cache": ["all"]}.get(name, []))]:
        context.set_tensor_address(tensor, small)
    assert context.execute_async_v3(device.stream)  # a GPU finds it out when it computes
    for _ in range(2):
        with pytest.raises(DeviceLost, match="cudaErrorIllegalAddress"):
            device.synchronize()


def test_position_outside_the_cache_breaks_the_device(context, bound, device):
    write(device, bound["at"], np.array([0, 8]))
    assert context.execute_async_v3(device.stream)
    with pytest.raises(DeviceLost, match="cudaErrorIllegalAddress"):
        device.synchronize()


def test_copy_past_the_end_of_memory_breaks_the_device(device):
    device.to_device(device.allocate(64), device.allocate_pinned((65,), np.uint8))
    with pytest.raises(DeviceLost, match="cudaErrorIllegalAddress"):
        device.synchronize()


def test_copy_of_memory_that_is_not_pinned_breaks_the_device(device):
    device.to_device(device.allocate(64), np.zeros(64, np.uint8))
    with pytest.raises(DeviceLost, match="cudaErrorIllegalAddress"):
        device.synchronize()


def test_fresh_memory_holds_nan_until_it_is_written(device, cuda):
    _, address = cuda.cudaMalloc(16)
    found = read(device, address, (4,))
    device.synchronize()
    assert np.isnan(found).all()
    zeroed = read(device, device.allocate(16), (4,))
    device.synchronize()
    assert not zeroed.any()


def test_graph_replays_the_addresses_that_it_was_recorded_with(context, bound, device):
    write(device, bound["new"], np.full((2, 1, 4), 3, np.float32))
    context.execute_async_v3(device.stream)
    recorded = device.capture(lambda: context.execute_async_v3(device.stream))
    device.synchronize()
    other = device.allocate(32)
    context.set_tensor_address("sum", other)
    write(device, bound["new"], np.full((2, 1, 4), 5, np.float32))
    device.replay(recorded)
    found, untouched = read(device, bound["sum"], (2, 4)), read(device, other, (2, 4))
    device.synchronize()
    assert found[0, 0] == 5
    assert not untouched.any()


def test_recording_does_nothing_by_itself(context, bound, device):
    write(device, bound["new"], np.full((2, 1, 4), 3, np.float32))
    context.execute_async_v3(device.stream)
    write(device, bound["new"], np.full((2, 1, 4), 5, np.float32))
    device.capture(lambda: context.execute_async_v3(device.stream))
    found = read(device, bound["sum"], (2, 4))
    device.synchronize()
    assert found[0, 0] == 3


@pytest.mark.usefixtures("bound")
def test_recording_of_shapes_that_never_ran_fails(context, device, said):
    with pytest.raises(RunnerError, match="cudaErrorStreamCaptureInvalidated"):
        device.capture(lambda: context.execute_async_v3(device.stream))
    assert "can't be captured" in said[-1]


@pytest.mark.parametrize("forbidden", ["allocate", "synchronize"])
def test_recording_something_forbidden_fails(device, forbidden):
    work = {"allocate": lambda: device.allocate(16), "synchronize": device.synchronize}
    with pytest.raises((RunnerError, DeviceLost), match="cudaErrorStreamCaptureUnsupported"):
        device.capture(work[forbidden])
    device.synchronize()  # and the stream works again


def test_memory_is_given_back_once(cuda):
    (_, address), success = cuda.cudaMalloc(16), cuda.cudaError_t.cudaSuccess
    assert cuda.cudaFreeHost(address) != (success,)
    assert cuda.cudaFree(address) == (success,)
    assert cuda.cudaFree(address) != (success,)


def test_model_of_these_tests_is_a_sound_one():
    onnx.checker.check_model(onnx.load_from_string(cache_model()), full_check=True)
