"""Who may import whom: the table in the design, held against every file's imports."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = (
    *("nanotriton", "export", "training", "clients", "gateway", "benchmarks", "monitoring"),
    *("model_repository", "score_repository"),
)
BASIS = ("nanotriton.contract", "nanotriton.errors", "nanotriton.manifest")
ENGINE = (
    *BASIS,
    *("nanotriton.tokenizer", "nanotriton.infill", "nanotriton.healing", "nanotriton.prompt"),
    *("nanotriton.runners.base", "nanotriton.engine"),
)
EXPORT = (
    *BASIS,
    *("nanotriton.tokenizer", "nanotriton.infill", "nanotriton.runners"),
    *("nanotriton.machine", "export"),
)
MEASURED = ("benchmarks.common", "clients", "nanotriton")
PEERS = (*MEASURED, "benchmarks.peers")
SERVING = (*PEERS, "benchmarks.serving")
# What of ours a file may import; the first pattern that fits its path decides.
OURS = {
    "nanotriton/__init__.py": (),
    "nanotriton/errors.py": (),
    "nanotriton/machine.py": (),
    "nanotriton/contract.py": (),
    "nanotriton/manifest.py": ("nanotriton.contract", "nanotriton.errors"),
    "nanotriton/tuned.py": ("nanotriton.errors", "nanotriton.machine"),
    "nanotriton/tokenizer.py": BASIS,
    "nanotriton/infill.py": ("nanotriton.errors",),
    "nanotriton/healing.py": (*BASIS, "nanotriton.tokenizer", "nanotriton.infill"),
    "nanotriton/prompt.py": (*BASIS, "nanotriton.tokenizer", "nanotriton.infill"),
    "nanotriton/runners/*": (*BASIS, "nanotriton.runners"),
    "nanotriton/engine/process.py": (
        *(*ENGINE, "nanotriton.runners"),
        *("nanotriton.machine", "nanotriton.tuned"),
    ),
    "nanotriton/engine/*": ENGINE,
    "nanotriton/scoring.py": (*BASIS, "nanotriton.tokenizer"),
    "nanotriton/*": ("nanotriton",),
    # What is served is checked through what users call it with.
    "export/verification.py": (*EXPORT, "clients"),
    "export/*": EXPORT,
    "training/*": ("training",),
    "clients/*": ("clients",),
    "gateway/*": ("gateway", "clients", "nanotriton.errors"),
    # Other ways to quantize, measured as export measures its own.
    "benchmarks/peers/torch_int8.py": (*PEERS, "export"),
    "benchmarks/peers/rounding.py": (*PEERS, "export"),
    "benchmarks/peers/*": PEERS,
    "benchmarks/common/*": MEASURED,
    "benchmarks/engine/*": (*MEASURED, "benchmarks.engine"),
    "benchmarks/serving/*": SERVING,
    "benchmarks/timing/*": (*SERVING, "benchmarks.timing"),
    "benchmarks/resilience/*": (*SERVING, "benchmarks.resilience"),
    "benchmarks/capacity/*": (*SERVING, "benchmarks.capacity"),
    "benchmarks/cost/*": (*PEERS, "benchmarks.engine", "benchmarks.cost"),
    "benchmarks/*": ("benchmarks", "clients", "nanotriton"),
    "monitoring/*": ("monitoring",),
    "*_repository/*/1/model.py": ("nanotriton",),
}
# What the wheel needs at run time; tritonclient only once something died, opentelemetry to trace.
# TensorRT and CUDA, which only machines with a GPU have, are imported by name in
# nanotriton/runners/cuda.py.
PRODUCTION = {"numpy", "msgpack", "zmq", "tiktoken", "onnxruntime"}
PRODUCTION_LAZY = {"tritonclient", "opentelemetry"}
BACKEND_UTILS = "triton_python_backend_utils"
BACKEND_MODEL = "*_repository/*/1/model.py"


@dataclass(frozen=True)
class Import:
    """One imported name; lazy when it stands inside a function or under TYPE_CHECKING."""

    name: str
    is_lazy: bool

    @property
    def package(self) -> str:
        """Its first word."""
        return self.name.split(".", 1)[0]


def imports_of(source: str) -> Iterator[Import]:
    """Every import of a source, `from a import b` as a.b and a relative one as it begins: "."."""
    pending: list[tuple[ast.AST, bool]] = [(ast.parse(source), False)]
    while pending:
        node, is_lazy = pending.pop()
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, is_lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (Import(f"{module}.{alias.name}", is_lazy) for alias in node.names)
        is_lazy |= isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        is_lazy |= isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        pending += [(child, is_lazy) for child in ast.iter_child_nodes(node)]


def faults_of(path: str, source: str) -> list[str]:
    """What the file at `path` (from the root) imports and may not."""
    return sorted({one.name for one in imports_of(source) if not is_allowed(path, one)})


def is_allowed(path: str, one: Import) -> bool:
    """Whether the design lets a file import something."""
    if one.name.startswith("."):
        return False  # a whole name says which room it is
    if one.package in ROOMS:
        allowed = next(names for pattern, names in OURS.items() if fnmatch(path, pattern))
        return any(one.name == name or one.name.startswith(f"{name}.") for name in allowed)
    if one.package == BACKEND_UTILS:
        return fnmatch(path, BACKEND_MODEL)
    if path.startswith("nanotriton/"):
        outside = PRODUCTION | sys.stdlib_module_names
        return one.package in outside or (one.is_lazy and one.package in PRODUCTION_LAZY)
    if path.startswith("export/") and one.package == "torch":
        return one.is_lazy
    return True


def sources() -> list[str]:
    """Every file that has rules, from the root."""
    rooms = [
        path
        for room in ROOMS[:-2]
        for path in (ROOT / room).rglob("*.py")
        if ".venvs" not in path.parts  # the peers' own
    ]
    models = ROOT.glob(BACKEND_MODEL)
    return sorted(str(path.relative_to(ROOT)) for path in (*rooms, *models))


@pytest.mark.parametrize("path", sources())
def test_file_imports_only_what_the_design_allows(path):
    assert faults_of(path, (ROOT / path).read_text(encoding="utf-8")) == []


def test_files_of_every_room_are_looked_at():
    assert {path.split("/", 1)[0] for path in sources()} >= {*ROOMS}
    assert len([path for path in sources() if path.startswith("model_repository")]) == 4


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("nanotriton/errors.py", "import nanotriton.contract", "nanotriton.contract"),
        ("nanotriton/contract.py", "from nanotriton import tokenizer", "nanotriton.tokenizer"),
        ("nanotriton/tokenizer.py", "from nanotriton.prompt import x", "nanotriton.prompt.x"),
        ("nanotriton/prompt.py", "import nanotriton.engine.core", "nanotriton.engine.core"),
        ("nanotriton/runners/ort.py", "from nanotriton import prompt", "nanotriton.prompt"),
        ("nanotriton/engine/core.py", "from nanotriton.runners.ort import R", None),
        ("nanotriton/engine/core.py", "from nanotriton import server", "nanotriton.server"),
        ("nanotriton/engine/core.py", "from .stops import StopMatcher", ".stops.StopMatcher"),
        ("nanotriton/doctor.py", "def f():\n    import torch", "torch"),
        ("nanotriton/doctor.py", "import onnx", "onnx"),
        ("nanotriton/watchdog.py", "import tritonclient.grpc", "tritonclient.grpc"),
        ("nanotriton/server.py", "from export import graph", "export.graph"),
        ("nanotriton/server.py", "import triton_python_backend_utils as pb_utils", None),
        ("export/graph.py", "import torch.nn", "torch.nn"),
        ("export/graph.py", "try:\n    import torch\nexcept ImportError:\n    pass", "torch"),
        ("export/graph.py", "from nanotriton.engine import core", "nanotriton.engine.core"),
        ("export/graph.py", "from training.gpt import GPT", "training.gpt.GPT"),
        ("training/train.py", "from nanotriton.errors import X", "nanotriton.errors.X"),
        ("clients/client.py", "def f():\n    import nanotriton", "nanotriton"),
        ("gateway/app.py", "from nanotriton.contract import X", "nanotriton.contract.X"),
        ("benchmarks/serving/load.py", "import export", "export"),
        ("benchmarks/peers/worker.py", "import benchmarks.serving", "benchmarks.serving"),
        ("model_repository/gpt/1/model.py", "from clients import X", "clients.X"),
        ("benchmarks/serving/load.py", "import triton_python_backend_utils", BACKEND_UTILS),
    ],
)
def test_forbidden_import_is_found(path, source, fault):
    assert faults_of(path, source) == [fault or next(imports_of(source)).name]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("nanotriton/manifest.py", "import json\nfrom nanotriton.errors import ManifestError"),
        ("nanotriton/engine/process.py", "from nanotriton.runners.ort import OrtRunner"),
        ("nanotriton/engine/core.py", "from nanotriton.runners.base import Runner"),
        ("nanotriton/watchdog.py", "def f():\n    import tritonclient.grpc as triton"),
        ("export/nanogpt.py", "def f():\n    import torch"),
        ("export/nanogpt.py", "if TYPE_CHECKING:\n    import torch"),
        ("export/graph.py", "import onnx\nfrom nanotriton.runners.ort import OrtRunner"),
        ("model_repository/gpt/1/model.py", "import triton_python_backend_utils as pb_utils"),
        ("benchmarks/serving/load.py", "from nanotriton.engine.client import EngineClient"),
    ],
)
def test_allowed_import_passes(path, source):
    assert faults_of(path, source) == []
