"""`python -m benchmarks bench`: the measurements of docs/benchmarks.md, one after the other.

Comes in: a list of commands of this package, a model repository, a folder. Goes out: in a folder
for each its JSON, pictures and table, and one report in Markdown over all. A command that fails or
hangs is in the report with what it said; the others run all the same. Knows nothing of what is
measured.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common.machine import describe

REPORT = "report.md"
ENDING_S = 60.0  # for a command that took too long to end its servers


@dataclass(frozen=True, slots=True)
class Step:
    """One command: a title for its chapter, its words, and the seconds after which it hangs.

    `serves` is false of what makes its models itself.
    """

    name: str
    title: str
    words: str
    limit_s: float = 240.0
    serves: bool = True

    def arguments(self, repository: Path, folder: Path) -> list[str]:
        """Its words, what it serves and where its figures and pictures go."""
        served = ["--model-repository", str(repository)] if self.serves else []
        outputs = ["--json", str(folder / "figures.json"), "--plot", str(folder)]
        return [*self.words.split(), *served, *outputs]


STEPS = (
    Step(
        "closed",
        "Users who ask anew when they are answered",
        "load --target gateway triton --users 1 8 32 --rounds 2 --seconds 6",
        360.0,
    ),
    Step(
        "open", "Questions at chance moments", "load --shape open --rates 2 8 16 --target gateway"
    ),
    Step("burst", "Questions in bursts of eight", "load --shape burst --rates 2 8 16"),
    Step("typing", "People who type", "load --shape typing --users 1 8 32 100 --seconds 15"),
    Step(
        "developers",
        "Developers per machine",
        "load --find-most --users 16 200 --seconds 10 --max-probes 6",
    ),
    Step("waterfall", "Where a completion's time goes", "waterfall --users 1 32 --rounds 8"),
    Step("breakdown", "Where a step's time goes", "breakdown --rounds 3"),
    Step("floor", "The least time that a step could take", "floor --rounds 5"),
    Step(
        "perf-analyzer",
        "NVIDIA's perf_analyzer on the same load",
        "perf-analyzer --users 1 8 --rates --rounds 3 --seconds 3",
    ),
    Step(
        "cost",
        "What each optimisation saved, and what tokens cost",
        "cost --rounds 4",
        300.0,
        False,
    ),
    Step("capacity", "Developers and machines, simulated", "capacity", 600.0),
)


@dataclass(frozen=True, slots=True)
class Done:
    """A step that was run: its exit status (None: it hung), what it printed and said last."""

    step: Step
    status: int | None
    seconds: float
    table: str
    last_words: str


def add_bench(add: argparse.ArgumentParser) -> None:
    """Where to, and which of them."""
    names = ", ".join(step.name for step in STEPS)
    add.add_argument(
        "--model-repository",
        type=Path,
        default=Path("model_repository"),
        help="what is served; default: %(default)s",
    )
    add.add_argument("--out", type=Path, default=Path("bench"), help="folder; default: %(default)s")
    add.add_argument(
        "--only", nargs="+", choices=[step.name for step in STEPS], help=f"of {names}; default: all"
    )


def bench(args: argparse.Namespace) -> int:
    """Run them all and write the report; 1 when one of them failed."""
    about = describe(args.argv)
    done = []
    for step in STEPS:
        if not args.only or step.name in args.only:
            print(f"{step.name}: {step.words}", file=sys.stderr, flush=True)
            done.append(run_step(step, args.model_repository, args.out / step.name))
            write_report(args.out, about, done)  # after each: what was measured outlives a break
    print(args.out / REPORT)
    return 1 if any(one.status != 0 for one in done) else 0


def run_step(step: Step, repository: Path, folder: Path) -> Done:
    """Run one command as anybody would, its table into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    command = [sys.executable, "-m", "benchmarks", *step.arguments(repository, folder)]
    started = time.monotonic()
    with (folder / "table.txt").open("w") as table, (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(command, stdout=table, stderr=log, start_new_session=True)
        status = _wait(process, step.limit_s)
    said = (folder / "log.txt").read_text(errors="replace").strip()
    return Done(
        step,
        status,
        time.monotonic() - started,
        (folder / "table.txt").read_text(errors="replace").rstrip(),
        said.rpartition("\n")[2],
    )


def write_report(out: Path, about: dict[str, object], done: Sequence[Done]) -> None:
    """All chapters so far."""
    versions = about["versions"]
    assert isinstance(versions, dict)
    lines = [
        "# Measured",
        "",
        f"{about['machine']}, load {about['load_average']:.1f} at the start, "
        + ", ".join(f"{name} {one}" for name, one in versions.items()),
        "",
        f"    {about['command']}",
    ]
    for one in done:
        lines += ["", f"## {one.step.title}", "", f"    python -m benchmarks {one.step.words}", ""]
        lines += [f"{one.seconds:.0f} s. {_end(one)}".rstrip(), ""]
        lines += [f"    {line}".rstrip() for line in one.table.splitlines()]
        pictures = sorted((out / one.step.name).glob("*.png"))
        lines += [f"\n![{one.step.title}]({path.relative_to(out)})" for path in pictures]
    (out / REPORT).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _wait(process: "subprocess.Popen[bytes]", limit_s: float) -> int | None:
    """Its exit status; a command that hangs is ended, then killed with all it started."""
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        process.terminate()  # it ends its servers itself
        with suppress(subprocess.TimeoutExpired):
            process.wait(ENDING_S)
        return None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _end(one: Done) -> str:
    if one.status is None:
        return f"It took longer than {one.step.limit_s:g} s and was ended: {one.last_words}"
    return f"It ended with status {one.status}: {one.last_words}" if one.status else ""
