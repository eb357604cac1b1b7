"""Real processes: a run killed at any moment, and a run of two."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from training.config import load_config
from training.runlog import RunLog
from training.train import LAST, LOG, Trainer

ROOT = Path(__file__).parents[2]
SETTINGS = (
    *("block_size=32", "n_layer=2", "n_head=2", "n_embd=32", "dropout=0.1", "fim_rate=0.5"),
    *("batch_size=2", "eval_batches=3", "log_every=1", "learning_rate=0.01"),
)
LONG = (*SETTINGS, "max_steps=120", "eval_every=20")
Loss = tuple[str, int, float]
# One thread, as in the test's own process: another number of them adds in another order.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
DEADLINE_S = 120.0


def command(data_dir: Path, out_dir: Path, settings: tuple[str, ...]) -> list[str]:
    files = ["train", "--data", str(data_dir), "--out", str(out_dir)]
    return ["-m", "training", *files, *(part for one in settings for part in ("--set", one))]


@pytest.fixture(scope="module")
def whole(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Loss]:
    """What the run to be killed logs when nobody kills it."""
    out_dir = tmp_path_factory.mktemp("whole")
    Trainer(load_config(None, LONG), data_dir, out_dir).run()
    return losses(out_dir)


def losses(out_dir: Path) -> list[Loss]:
    """Everything that must be equal: both losses, by step, in the order of the log."""
    return [
        (name, record["step"], record[name])
        for record in RunLog(out_dir / LOG).records()
        for name in ("loss", "val_loss")
        if name in record
    ]


def kill_after(step: int, process: "subprocess.Popen[bytes]", out_dir: Path) -> None:
    """SIGKILL as soon as the log tells of the step."""
    deadline = time.monotonic() + DEADLINE_S
    records: list[dict[str, Any]] = []
    while not records or records[-1]["step"] < step:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline, records[-1:]
        time.sleep(0.002)
        records = RunLog(out_dir / LOG).records()
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("step", [25, 41], ids=["between validations", "just after one"])
def test_killed_run_resumes_as_if_nothing_had_happened(
    data_dir: Path, tmp_path: Path, whole: list[Loss], step: int
) -> None:
    killed = tmp_path / "killed"
    with subprocess.Popen(
        [sys.executable, *command(data_dir, killed, LONG)],
        cwd=ROOT,
        env=ENVIRONMENT,
        stderr=subprocess.DEVNULL,
    ) as process:
        kill_after(step, process, killed)
    assert losses(killed)[-1][1] < 120
    resumed = Trainer(load_config(None, LONG), data_dir, killed)
    resumed.resume()
    assert 0 < resumed.progress.step <= losses(killed)[-1][1]

    resumed.run()
    assert losses(killed) == whole  # to the last bit


def test_two_processes_have_the_loss_of_one(data_dir: Path, tmp_path: Path) -> None:
    settings = (*SETTINGS, "max_steps=6", "eval_every=3", "accumulation=4", "optimizer=muon")
    one, two = tmp_path / "one", tmp_path / "two"
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [sys.executable, *torchrun, *command(data_dir, two, settings)],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    Trainer(load_config(None, settings), data_dir, one).run()

    assert done.returncode == 0, done.stderr
    assert RunLog(two / LOG).records()[0]["num_processes"] == 2
    assert done.stdout.count("best_val_loss") == 1  # the second process says and writes nothing
    assert [loss[:2] for loss in losses(two)] == [loss[:2] for loss in losses(one)]
    # the same gradients, added in another order
    assert [loss[2] for loss in losses(two)] == pytest.approx([x[2] for x in losses(one)], abs=1e-5)
    assert (two / LAST).is_file()
