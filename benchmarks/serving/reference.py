"""What Triton itself costs here: an ensemble of three Python models that do nothing.

Comes in: how many rounds. Goes out: milliseconds of one such model and of the ensemble, over gRPC
on a server of its own. The floor under what `benchmarks.serving.latency` finds for `completion`.
"""

import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton

from nanotriton.installation import find_installation

STEPS = ("first", "second", "third")
READY_TIMEOUT_S = 60.0

MODEL = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("y", pb_utils.get_input_tensor_by_name(one, "x").as_numpy())]
            )
            for one in requests
        ]
"""
TENSORS = """
max_batch_size: 64
input [ { name: "x" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "y" data_type: TYPE_INT32 dims: [ 1 ] } ]
"""
PYTHON = 'backend: "python"\ndynamic_batching { }\ninstance_group [ { kind: KIND_CPU } ]\n'
STEP = (
    '{{ model_name: "{0}" model_version: -1 input_map {{ key: "x" value: "{1}" }} '
    'output_map {{ key: "y" value: "{2}" }} }}'
)


def measure_reference(rounds: int, ports: tuple[int, int, int]) -> dict[str, float]:
    """Median milliseconds of one empty model and of three in an ensemble, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        write_repository(Path(folder, "repository"))
        installation = find_installation(Path(folder))
        names = ("http-port", "grpc-port", "metrics-port")
        flags = [f"--{name}={port}" for name, port in zip(names, ports, strict=True)]
        process = subprocess.Popen(
            [*installation.command, f"--model-repository={folder}/repository", *flags],
            env=dict(installation.environment),
            stderr=subprocess.DEVNULL,
        )
        try:
            return _time_models(f"localhost:{ports[1]}", rounds)
        finally:
            process.terminate()
            process.wait()


def write_repository(folder: Path) -> None:
    """Three models that hand their input on, and the ensemble that chains them."""
    for name in STEPS:
        version = folder / name / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(MODEL)
        (folder / name / "config.pbtxt").write_text(f'name: "{name}"\n{PYTHON}{TENSORS}')
    values = ("x", "between", "after", "y")
    steps = ", ".join(
        STEP.format(name, *values[index : index + 2]) for index, name in enumerate(STEPS)
    )
    (folder / "ensemble" / "1").mkdir(parents=True)
    (folder / "ensemble" / "config.pbtxt").write_text(
        f'name: "ensemble"\nplatform: "ensemble"\n{TENSORS}'
        f"ensemble_scheduling {{ step [ {steps} ] }}\n"
    )


def _time_models(url: str, rounds: int) -> dict[str, float]:
    client = triton.InferenceServerClient(url)
    value = triton.InferInput("x", [1, 1], "INT32")
    value.set_data_from_numpy(np.ones((1, 1), np.int32))
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        try:
            client.infer("ensemble", [value])
            break
        except triton.InferenceServerException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    times: dict[str, list[float]] = {"first": [], "ensemble": []}
    for _ in range(rounds):
        for name, found in times.items():
            started = time.perf_counter()
            client.infer(name, [value])
            found.append((time.perf_counter() - started) * 1e3)
    client.close()
    return {name: float(np.median(found)) for name, found in times.items()}
