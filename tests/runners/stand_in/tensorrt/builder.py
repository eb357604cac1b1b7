"""The stand-in's builder: an ONNX file and profiles in, a plan for the stand-in's runtime out."""

from enum import IntEnum

import onnx
import onnxruntime

from tensorrt.plan_bytes import PlanBytes
from tensorrt.values import ORT, Severity


class NetworkDefinitionCreationFlag(IntEnum):
    """What a network is like; the types stand in the graph."""

    STRONGLY_TYPED = 1


class MemoryPoolType(IntEnum):
    """Memory that a build may use."""

    WORKSPACE = 0


class IProgressMonitor:
    """What a user's monitor derives from."""


class ITensor:
    """An input or output of a network."""

    def __init__(self, value):
        self.name, self.dtype = value.name, ORT[value.type]
        self.shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)


class INetworkDefinition:
    """What a parser has read."""

    def __init__(self):
        self.model, self._inputs, self._outputs = b"", [], []

    @property
    def num_inputs(self):
        return len(self._inputs)

    @property
    def num_outputs(self):
        return len(self._outputs)

    def get_input(self, index):
        return self._inputs[index]

    def get_output(self, index):
        return self._outputs[index]


class ParserError:
    """Why a file can't be read."""

    def __init__(self, words):
        self._words = words

    def desc(self):
        return self._words


class OnnxParser:
    """Fills a network."""

    def __init__(self, network, logger):
        self._network, self._logger, self._errors = network, logger, []

    @property
    def num_errors(self):
        return len(self._errors)

    def get_error(self, index):
        return self._errors[index]

    def parse_from_file(self, model):
        try:
            content = onnx.load_model(model).SerializeToString()
            session = onnxruntime.InferenceSession(content, _quiet(), ["CPUExecutionProvider"])
        except Exception as error:  # whatever either library raises for a file that is no model
            self._errors.append(ParserError(str(error)))
            return False
        self._network.model = content
        self._network._inputs = list(map(ITensor, session.get_inputs()))
        self._network._outputs = list(map(ITensor, session.get_outputs()))
        return True


class IOptimizationProfile:
    """Least, best and largest shapes of inputs."""

    def __init__(self):
        self.shapes = {}

    def set_shape(self, input, min, opt, max):
        ordered = all(map(_rises, min, opt, max)) and len(min) == len(opt) == len(max)
        if not ordered:
            raise ValueError(f"shapes of {input} don't rise from {min} over {opt} to {max}")
        self.shapes[input] = [list(min), list(opt), list(max)]

    def __bool__(self):
        return bool(self.shapes)


class ITimingCache:
    """Nothing is timed here."""

    def serialize(self):
        return b"timed"


class IBuilderConfig:
    """How to build."""

    def __init__(self):
        self.profiles, self.progress_monitor = [], None

    def set_memory_pool_limit(self, pool, pool_size):
        assert isinstance(pool, MemoryPoolType)
        assert pool_size > 0

    def add_optimization_profile(self, profile):
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized_timing_cache):
        return ITimingCache() if serialized_timing_cache in {b"", b"timed"} else None

    def set_timing_cache(self, cache, ignore_mismatch):
        return isinstance(cache, ITimingCache) and not ignore_mismatch


class Builder:
    """Makes the rest."""

    def __init__(self, logger):
        assert logger._is_made, "the logger never called ILogger.__init__"
        self.logger = logger

    def create_network(self, flags):
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return INetworkDefinition()

    def create_builder_config(self):
        return IBuilderConfig()

    def create_optimization_profile(self):
        return IOptimizationProfile()

    def build_serialized_network(self, network, config):
        """The plan; None, and words in the log, when an input lacks its shapes."""
        for index, profile in enumerate(config.profiles or [IOptimizationProfile()]):
            for tensor in network._inputs:
                shapes = profile.shapes.get(tensor.name, [tensor.shape] * 3)
                if not all(map(_fits, tensor.shape, shapes[0], shapes[2])):
                    words = f"{tensor.name}: profile {index} has no shapes that fit {tensor.shape}"
                    return self.logger.log(Severity.ERROR, f"Network validation failed: {words}")
        monitor = config.progress_monitor
        if monitor is not None:
            monitor.phase_start("Building Engine", None, 1)
            monitor.step_complete("Building Engine", 0)
            monitor.phase_finish("Building Engine")
        profiles = [profile.shapes for profile in config.profiles]
        return PlanBytes(profiles, network.model).pack()


def _rises(least, best, most):
    return 0 <= least <= best <= most


def _fits(size, least, most):
    return least == most == size if size >= 0 else least >= 0


def _quiet():
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return options
