"""The stand-in's builder refuses what TensorRT's does, and its plans run."""

import pytest
from plans import HAS_TENSORRT

from export.dialect import build_dialect
from export.model_file import write_model

pytestmark = pytest.mark.skipif(HAS_TENSORRT, reason="this machine has TensorRT itself")


@pytest.fixture
def log(trt):
    """A logger that keeps what it is told."""

    class Log(trt.ILogger):
        def __init__(self):
            super().__init__()
            self.said = []

        def log(self, _severity, msg):
            self.said.append(msg)

    return Log()


@pytest.fixture
def network(trt, log, checkpoint, tmp_path):
    """The tiny model's dialect, parsed."""
    write_model(build_dialect(checkpoint, half=True, kv="none"), tmp_path)
    made = trt.Builder(log).create_network(1 << int(trt.NetworkDefinitionCreationFlag(1)))
    assert trt.OnnxParser(made, log).parse_from_file(str(tmp_path / "model.onnx"))
    return made


def build(trt, log, network, shapes):
    builder = trt.Builder(log)
    profile = builder.create_optimization_profile()
    for name, triple in shapes.items():
        profile.set_shape(name, *triple)
    config = builder.create_builder_config()
    config.add_optimization_profile(profile)
    return builder.build_serialized_network(network, config)


def test_built_plan_has_the_networks_tensors(trt, log, network):
    shapes = {network.get_input(i).name: ((1, 1), (2, 8), (4, 64)) for i in range(3)}
    engine = trt.Runtime(log).deserialize_cuda_engine(build(trt, log, network, shapes))
    assert engine.num_io_tensors == network.num_inputs + network.num_outputs
    assert engine.get_tensor_profile_shape("input_ids", 0)[2] == (4, 64)


def test_input_without_shapes_is_refused(trt, log, network):
    assert build(trt, log, network, {"input_ids": ((1, 1), (1, 1), (1, 1))}) is None
    assert "profile 0 has no shapes" in log.said[-1]


def test_shapes_that_do_not_rise_are_refused(trt, log, network):
    with pytest.raises(ValueError, match="don't rise"):
        build(trt, log, network, {"input_ids": ((1, 4), (1, 2), (1, 8))})


def test_file_that_is_no_model_is_refused(trt, log, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    parser = trt.OnnxParser(trt.Builder(log).create_network(2), log)
    assert not parser.parse_from_file(str(tmp_path / "model.onnx"))
    assert parser.get_error(0).desc()
