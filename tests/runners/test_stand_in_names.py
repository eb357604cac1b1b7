"""The stand-in's names and arguments are those of NVIDIA's own packages, where these can be had.

Both install without a GPU: `pip install cuda-bindings` and, as TensorRT itself can't be had from
PyPI and has the same interface, TensorRT-RTX (`tensorrt-rtx-cu12` with its libs and bindings).
"""

import inspect
import json
import re
import subprocess
import sys

import pytest
from plans import HAS_TENSORRT

pytestmark = pytest.mark.skipif(HAS_TENSORRT, reason="this machine has TensorRT itself")
CLASSES = (
    *("Runtime", "ICudaEngine", "IExecutionContext", "ILogger"),
    *("Builder", "INetworkDefinition", "OnnxParser", "IBuilderConfig", "IOptimizationProfile"),
)
# Documentation of the attributes of a module and of its classes, by dotted name.
TELL = """
import importlib, json, sys
module = importlib.import_module(sys.argv[1])
owners = {"": module} | {name: getattr(module, name) for name in sys.argv[2:]}
print(json.dumps({f"{owner}.{name}".lstrip("."): getattr(value, "__doc__", None) or ""
    for owner, part in owners.items() for name, value in vars(part).items()}))
"""


def told(module, *classes):
    """What a package that is installed says of itself; skips when it isn't."""
    command = [sys.executable, "-W", "ignore", "-c", TELL, module, *classes]
    found = subprocess.run(command, capture_output=True, text=True, check=False, env={})
    if found.returncode:
        pytest.skip(f"{module} is not installed")
    return json.loads(found.stdout)


def arguments(documentation):
    """Names of a function's arguments, of the first line or signature of its documentation."""
    inside = re.search(r"\((.*?)\)(?: ->|$)", documentation, re.MULTILINE)[1]
    words = [part.split(":")[0].split("=")[0].split()[-1] for part in inside.split(",") if part]
    return [word for word in words if word != "self"]


def own_functions(owner):
    """Functions that the stand-in defines itself, by name."""
    functions = inspect.getmembers(owner, inspect.isfunction)
    return {
        name: list(inspect.signature(function).parameters)
        for name, function in functions
        if not name.startswith("_")
    }


def test_cuda_functions_and_arguments_are_the_real_ones(cuda):
    real = told("cuda.bindings.runtime")
    for name, parameters in own_functions(cuda).items():
        assert arguments(real[name]) == parameters, name


@pytest.mark.parametrize("kind", ["cudaError_t", "cudaMemcpyKind", "cudaStreamCaptureMode"])
def test_cuda_numbers_are_the_real_ones(cuda, kind):
    numbers = "import sys, cuda.bindings.runtime as r; k = getattr(r, sys.argv[1]); "
    numbers += "print({one.name: one.value for one in k})"
    command = [sys.executable, "-W", "ignore", "-c", numbers, kind]
    found = subprocess.run(command, capture_output=True, text=True, check=False, env={})
    if found.returncode:
        pytest.skip("cuda.bindings.runtime is not installed")
    for one in getattr(cuda, kind):
        assert f"'{one.name}': {one.value}" in found.stdout


def test_tensorrt_methods_and_arguments_are_the_real_ones(trt):
    real = told("tensorrt_rtx", *CLASSES)
    for owner in CLASSES:
        for name, (_, *parameters) in own_functions(getattr(trt, owner)).items():
            documentation = real[f"{owner}.{name}"]
            for parameter in parameters:
                assert re.search(rf"\b{parameter}: ", documentation), (owner, name, parameter)
