"""The stand-in's version, types and loggers."""

from enum import IntEnum

import numpy as np

__version__ = "10.15.1.29"
SM = 80


class DataType(IntEnum):
    """Types of tensors."""

    FLOAT = 0
    HALF = 1
    INT64 = 8


NUMPY = {DataType.FLOAT: np.float32, DataType.HALF: np.float16, DataType.INT64: np.int64}
ORT = {
    "tensor(float)": DataType.FLOAT,
    "tensor(float16)": DataType.HALF,
    "tensor(int64)": DataType.INT64,
}


def nptype(trt_type):
    """NumPy's name for a type."""
    return NUMPY[trt_type]


class TensorIOMode(IntEnum):
    """Whether a tensor comes in or goes out."""

    NONE = 0
    INPUT = 1
    OUTPUT = 2


class Severity(IntEnum):
    """How bad a message is."""

    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    """What a user's logger derives from; it must call this `__init__`."""

    Severity = Severity
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity

    def __init__(self):
        self._is_made = True

    def log(self, severity, msg):
        raise NotImplementedError


class Logger(ILogger):
    """Prints what is at least as bad as `min_severity`."""

    def __init__(self, min_severity=Severity.WARNING):
        super().__init__()
        self.min_severity = min_severity

    def log(self, severity, msg):
        if severity <= self.min_severity:
            print(f"[TRT] {severity.name}: {msg}")
