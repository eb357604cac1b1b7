"""The stand-in's runtime: plans opened, contexts that refuse what TensorRT refuses."""

import onnx
import onnxruntime
from gpu_memory import ALIGNMENT, GPU, IllegalAddress

from tensorrt.plan_bytes import MAGIC, unpack
from tensorrt.values import ORT, SM, Severity, TensorIOMode, __version__, nptype


class Runtime:
    """Opens plans of this version, for this architecture."""

    def __init__(self, logger):
        assert logger._is_made, "the logger never called ILogger.__init__"
        self.logger = logger

    def deserialize_cuda_engine(self, serialized_engine):
        plan = bytes(serialized_engine)
        if plan[:4] != MAGIC:
            return self._refuse(
                "Serialization assertion header.magicTag == kEXPECTED_MAGIC_TAG failed."
            )
        try:
            found = unpack(plan)
        except (ValueError, KeyError):
            return self._refuse("Serialization assertion plan->header.size failed.")
        if found.version != __version__:
            return self._refuse(
                f"The engine plan file is not compatible with this version of TensorRT, expecting "
                f"library version {__version__} got {found.version}, please rebuild."
            )
        if found.sm != SM:
            return self._refuse(
                "The engine plan file is generated on an incompatible device, expecting compute "
                f"{SM / 10} got compute {found.sm / 10}, please rebuild."
            )
        return ICudaEngine(found, self.logger)

    def _refuse(self, words):
        self.logger.log(Severity.ERROR, f"IRuntime::deserializeCudaEngine: Error Code 1: {words}")


class ICudaEngine:
    """A plan's tensors and profiles."""

    def __init__(self, plan, logger):
        self._profiles, self._logger = plan.profiles, logger
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(plan.model, options, ["CPUExecutionProvider"])
        self._inputs = {one.name: one for one in self._session.get_inputs()}
        self._outputs = {one.name: one for one in self._session.get_outputs()}
        self._aliases = {
            node.output[0]: node.input[0]
            for node in onnx.load_from_string(plan.model).graph.node
            if node.op_type == "TensorScatter" and node.output[0] in self._outputs
        }

    @property
    def num_io_tensors(self):
        return len(self._inputs) + len(self._outputs)

    @property
    def num_optimization_profiles(self):
        return len(self._profiles)

    def get_tensor_name(self, index):
        return [*self._inputs, *self._outputs][index]

    def get_tensor_mode(self, name):
        if name in self._inputs:
            return TensorIOMode.INPUT
        return TensorIOMode.OUTPUT if name in self._outputs else TensorIOMode.NONE

    def get_tensor_shape(self, name):
        return tuple(size if isinstance(size, int) else -1 for size in self._tensor(name).shape)

    def get_tensor_dtype(self, name):
        return ORT[self._tensor(name).type]

    def get_tensor_profile_shape(self, name, profile_index):
        return [tuple(shape) for shape in self._profiles[profile_index][name]]

    def get_aliased_input_tensor(self, name):
        return self._aliases.get(name)

    def create_execution_context(self):
        return IExecutionContext(self)

    def _tensor(self, name):
        return self._inputs.get(name) or self._outputs[name]


class IExecutionContext:
    """One profile's shapes and addresses."""

    def __init__(self, engine):
        self.engine = engine
        self.active_optimization_profile = 0
        self._shapes = {}
        self._addresses = {}
        self._seen_shapes = None  # those of the last run that was no capture

    def set_optimization_profile_async(self, profile_index, stream_handle):
        if not 0 <= profile_index < self.engine.num_optimization_profiles:
            return self._refuse(f"setOptimizationProfileAsync: no profile {profile_index}")
        if int(stream_handle) not in GPU.streams:
            return self._refuse("setOptimizationProfileAsync: invalid resource handle")
        self.active_optimization_profile = profile_index
        self._shapes = {}
        return True

    def set_input_shape(self, name, shape):
        if self.engine.get_tensor_mode(name) is not TensorIOMode.INPUT:
            return self._refuse(f"setInputShape: {name} is no input")
        profile = self.active_optimization_profile
        least, _, most = self.engine.get_tensor_profile_shape(name, profile)
        fits = len(shape) == len(least) and all(map(_between, least, shape, most))
        if not fits:
            return self._refuse(
                f"IExecutionContext::setInputShape: Error Code 3: API Usage Error (Set dimension "
                f"{list(shape)} for tensor {name} does not satisfy any optimization profiles. "
                f"Valid range for profile {profile}: {list(least)}..{list(most)})"
            )
        self._shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name, memory):
        if self.engine.get_tensor_mode(name) is TensorIOMode.NONE:
            return self._refuse(f"setTensorAddress: there is no tensor {name}")
        if memory % ALIGNMENT:
            return self._refuse(f"setTensorAddress: {name} is not aligned to {ALIGNMENT} bytes")
        self._addresses[name] = memory
        return True

    def get_tensor_shape(self, name):
        return self._shapes.get(name, self.engine.get_tensor_shape(name))

    def get_tensor_address(self, name):
        return self._addresses.get(name, 0)

    def infer_shapes(self):
        """Inputs whose shape is not set."""
        return [name for name in self.engine._inputs if name not in self._shapes]

    def execute_async_v3(self, stream_handle):
        stream = GPU.streams.get(int(stream_handle))
        if stream is None:
            return self._refuse("enqueueV3: the stream is the default one, or none")
        if fault := self._fault():
            return self._refuse(
                f"IExecutionContext::enqueueV3: Error Code 3: API Usage Error ({fault})"
            )
        if stream.captured is None:
            self._seen_shapes = dict(self._shapes)
        elif self._seen_shapes != self._shapes:
            stream.is_capture_broken = True
            return self._refuse(
                "enqueueV3: shapes changed since the last run, so it can't be captured"
            )
        shapes, addresses = dict(self._shapes), dict(self._addresses)
        stream.put(lambda: self._compute(shapes, addresses))
        return True

    def _fault(self):
        """What is missing or wrong, in words."""
        if missing := self.infer_shapes():
            return f"Input shapes of {missing} have not been set"
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        if missing := [name for name in names if not self._addresses.get(name)]:
            return f"Address is not set for tensors {missing}"
        for output, source in self.engine._aliases.items():
            if self._addresses[output] != self._addresses[source]:
                return f"{output} and {source} are updated in place and must share one address"
        return ""

    def _compute(self, shapes, addresses):
        feeds = {
            name: self._view(name, addresses[name], shape).copy() for name, shape in shapes.items()
        }
        try:
            results = self.engine._session.run(None, feeds)
        except Exception as error:  # an index outside its tensor: a GPU reads what isn't there
            raise IllegalAddress(str(error)) from None
        for name, result in zip(self.engine._outputs, results, strict=True):
            self._view(name, addresses[name], result.shape)[:] = result

    def _view(self, name, address, shape):
        dtype = nptype(self.engine.get_tensor_dtype(name))
        size = dtype().itemsize
        for axis in shape:
            size *= axis
        return GPU.bytes_at(address, size, "device").view(dtype).reshape(shape)

    def _refuse(self, words):
        self.engine._logger.log(Severity.ERROR, words)
        return False


def _between(least, size, most):
    return least <= size <= most
