"""The first bytes of a TensorRT plan in, who built it out; no TensorRT is needed.

A plan runs under the very version that built it. NVIDIA documents no header: these bytes were seen
in plans of TensorRT 10 and of TensorRT-RTX 1, and NVIDIA named the place of the version
(github.com/NVIDIA/TensorRT/issues/3073). The GPU isn't among them: the manifest's `plan` has it.
Knows nothing of what a plan computes.
"""

from dataclasses import dataclass
from pathlib import Path

from nanotriton.errors import RunnerError
from nanotriton.manifest import PlanTarget

TENSORRT, TENSORRT_RTX = "TensorRT", "TensorRT-RTX"
FLAVOURS = {b"ftrt": TENSORRT, b"vtrt": TENSORRT_RTX}
VERSION_OFFSET = 0x18  # major, minor, patch and build, a byte each
HEADER_BYTES = 0x20
NUM_DECIDING = 3  # of the version's numbers; a build of the same patch reads the plan


@dataclass(frozen=True, slots=True)
class PlanHeader:
    """Who wrote a plan: `flavour` "TensorRT" or "TensorRT-RTX", and which version of it."""

    flavour: str
    version: str


def read_plan_header(path: Path) -> PlanHeader:
    """The header of a plan; raises RunnerError for a file that has none."""
    try:
        with path.open("rb") as file:
            start = file.read(HEADER_BYTES)
    except OSError as error:
        raise RunnerError(
            f"{path} can't be read ({error.strerror}): build the plan again"
        ) from None
    if len(start) < HEADER_BYTES or start[:4] not in FLAVOURS:
        raise RunnerError(
            f"{path} is no TensorRT plan (it has {len(start)} bytes of a header's {HEADER_BYTES} "
            f"and begins with {start[:4]!r}): build it again with `python -m export plan`"
        )
    version = start[VERSION_OFFSET : VERSION_OFFSET + 4]
    return PlanHeader(FLAVOURS[start[:4]], ".".join(map(str, version)))


def servable_header(path: Path) -> PlanHeader:
    """The header of a plan that may be served; raises RunnerError for one of TensorRT-RTX."""
    header = read_plan_header(path)
    if header.flavour != TENSORRT:
        raise RunnerError(
            f"{path} is a plan of {header.flavour} {header.version}, which only shows that a model "
            "builds: build one with TensorRT on the machine that serves"
        )
    return header


def check_plan(path: Path, target: PlanTarget, tensorrt_version: str, capability: str) -> None:
    """Raise RunnerError unless a plan was built for this TensorRT and this GPU ("80")."""
    header = servable_header(path)
    if not is_same_version(header.version, tensorrt_version):
        raise RunnerError(
            f"{path} was built by TensorRT {header.version}, this machine has {tensorrt_version}: "
            "build it again with `python -m export plan`, or install the version that built it"
        )
    if target.compute_capability != capability:
        raise RunnerError(
            f"{path} was built for SM {target.compute_capability}, this GPU is SM {capability}: "
            "build it again with `python -m export plan` on this machine"
        )


def is_same_version(built: str, installed: str) -> bool:
    """Whether a plan of one TensorRT runs under another."""
    return built.split(".")[:NUM_DECIDING] == installed.split(".")[:NUM_DECIDING]
