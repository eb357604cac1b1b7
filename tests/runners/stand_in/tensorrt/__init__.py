"""A stand-in for the part of TensorRT that nanotriton uses, computed by ONNX Runtime on the CPU.

Names, arguments and answers are those of TensorRT 10.15 (and are held against TensorRT-RTX's by a
test where that is installed). What TensorRT refuses is refused here: shapes outside the profile,
addresses that are missing or not at multiples of 256, a past and a present that TensorRT updates in
place at two addresses, plans of another version, flavour or architecture. It is no TensorRT: what
it computes says nothing of a GPU's speed or rounding.
"""

from tensorrt.builder import (
    Builder,
    IBuilderConfig,
    INetworkDefinition,
    IOptimizationProfile,
    IProgressMonitor,
    MemoryPoolType,
    NetworkDefinitionCreationFlag,
    OnnxParser,
)
from tensorrt.plan_bytes import PlanBytes
from tensorrt.runtime import ICudaEngine, IExecutionContext, Runtime
from tensorrt.values import DataType, ILogger, Logger, TensorIOMode, __version__, nptype

float16, float32, int64 = DataType.HALF, DataType.FLOAT, DataType.INT64

__all__ = [
    "Builder",
    "DataType",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IProgressMonitor",
    "Logger",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "PlanBytes",
    "Runtime",
    "TensorIOMode",
    "__version__",
    "float16",
    "float32",
    "int64",
    "nptype",
]
