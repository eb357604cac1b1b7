"""What this machine is, as far as it decides how fast and how rightly a model runs.

Comes in: /proc. Goes out: a `Machine`. Knows nothing of models.
"""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# Instructions that add products of 8-bit integers in 32 bits, as /proc/cpuinfo names them.
VNNI = {"avx512_vnni", "avx_vnni", "amx_int8"}


@dataclass(frozen=True, slots=True)
class Machine:
    """A processor's name, how many of its cores may be used, and whether 8 bits may saturate.

    Without VNNI, x86 adds pairs of u8 x s8 products in 16 bits (onnxruntime.ai, "Quantize ONNX
    models", reduce_range).
    """

    cpu: str
    num_cores: int
    may_saturate: bool

    def __str__(self) -> str:
        return f"{self.cpu}, {self.num_cores} cores"


def this_machine() -> Machine:
    """The one that this process runs on."""
    return read_machine(CPUINFO.read_text() if CPUINFO.is_file() else "")


def read_machine(cpuinfo: str) -> Machine:
    """The one that the content of /proc/cpuinfo describes."""
    values: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        values.setdefault(name.strip(), value.strip())
    flags = set(values.get("flags", "").split())  # x86 only
    return Machine(
        cpu=values.get("model name") or platform.processor() or platform.machine(),
        num_cores=len(os.sched_getaffinity(0)),
        may_saturate=bool(flags) and flags.isdisjoint(VNNI),
    )
