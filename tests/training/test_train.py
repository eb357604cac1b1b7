"""Training: it learns, stops on time, saves what it says and goes on where it stopped."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training.bpe import load_tokenizer
from training.checkpoint import load_checkpoint
from training.config import TrainConfig
from training.errors import CheckpointError, ConfigError, CorpusError, TrainingError
from training.processes import Place
from training.runlog import RunLog
from training.train import BEST, CURVE, LAST, LOG, Trainer

TINY = {"block_size": 32, "n_layer": 2, "n_head": 2, "n_embd": 32, "batch_size": 8}
NANOGPT_KEYS = {"model", "optimizer", "model_args", "iter_num", "best_val_loss", "config"}
NANOGPT_SIZES = {"block_size", "vocab_size", "n_layer", "n_head", "n_embd", "dropout", "bias"}


def tiny(**settings: object) -> TrainConfig:
    defaults = {"max_steps": 60, "eval_every": 30, "eval_batches": 2, "learning_rate": 1e-2}
    return TrainConfig(**(TINY | defaults | settings))  # type: ignore[arg-type]


class FakeClock:
    """Every look at it takes ``step_s``."""

    def __init__(self, step_s: float) -> None:
        self.now_s = 0.0
        self.step_s = step_s

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


def test_loss_falls(data_dir: Path, tmp_path: Path) -> None:
    progress = Trainer(tiny(), data_dir, tmp_path).run()

    untrained = torch.log(torch.tensor(512.0)).item()  # a uniform guess over the vocabulary
    assert progress.step == 60
    assert progress.best_val_loss < untrained - 1.0


def test_checkpoint_is_nanogpts_and_whole(data_dir: Path, tmp_path: Path) -> None:
    Trainer(tiny(), data_dir, tmp_path).run()
    state = torch.load(tmp_path / "ckpt.pt", weights_only=True)

    assert set(state) >= NANOGPT_KEYS
    assert set(state["model_args"]) == NANOGPT_SIZES
    assert "transformer.h.1.attn.c_attn.weight" in state["model"]
    assert state["model"]["lm_head.weight"].equal(state["model"]["transformer.wte.weight"])
    assert {path.name for path in tmp_path.iterdir()} == {BEST, LAST, LOG, CURVE}


def test_resumed_run_goes_on_where_it_stopped(data_dir: Path, tmp_path: Path) -> None:
    first = Trainer(tiny(max_steps=30), data_dir, tmp_path)
    first.run()
    second = Trainer(tiny(max_steps=60), data_dir, tmp_path)
    second.resume()

    assert second.progress == first.progress
    for name, weight in second.learner.model.state_dict().items():
        assert weight.equal(first.learner.model.state_dict()[name])
    assert second.run().step == 60
    assert second.progress.best_val_loss < first.progress.best_val_loss


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_resumed_run_has_the_weights_of_an_unbroken_one(
    data_dir: Path, tmp_path: Path, optimizer: str
) -> None:
    steady = tiny(max_steps=6, optimizer=optimizer, min_learning_rate=1e-2, warmup_share=0.0)
    whole = Trainer(steady, data_dir, tmp_path / "whole")
    whole.run()
    Trainer(replace(steady, max_steps=3), data_dir, tmp_path / "broken").run()
    resumed = Trainer(steady, data_dir, tmp_path / "broken")
    resumed.resume()
    resumed.run()

    for name, weight in resumed.learner.model.state_dict().items():
        assert weight.equal(whole.learner.model.state_dict()[name])


def test_muon_moves_the_blocks_matrices_and_adamw_the_rest(data_dir: Path, tmp_path: Path) -> None:
    learner = Trainer(tiny(optimizer="muon"), data_dir, tmp_path).learner
    muon, adamw = learner.optimizer.parts
    names = {id(p): name for name, p in learner.model.named_parameters()}
    of_muon, of_adamw = (
        {names[id(p)] for group in part.param_groups for p in group["params"]}
        for part in (muon, adamw)
    )

    assert of_muon == {
        f"transformer.h.{layer}.{name}.weight"
        for layer in (0, 1)
        for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    }
    assert of_muon | of_adamw == set(names.values())
    assert not of_muon & of_adamw


def test_resume_with_another_optimizer_is_refused(data_dir: Path, tmp_path: Path) -> None:
    Trainer(tiny(max_steps=1, optimizer="muon"), data_dir, tmp_path).run()

    with pytest.raises(CheckpointError, match=r"state of 2 optimizers, 1 are in use"):
        Trainer(tiny(), data_dir, tmp_path).resume()


def test_same_seed_trains_the_same_weights(data_dir: Path, tmp_path: Path) -> None:
    runs = [Trainer(tiny(max_steps=5), data_dir, tmp_path / name) for name in ("a", "b")]
    losses = [run.run().best_val_loss for run in runs]

    assert losses[0] == losses[1]


def test_run_ends_when_its_minutes_are_over(data_dir: Path, tmp_path: Path) -> None:
    config = tiny(max_steps=0, max_minutes=1.0, eval_every=1000)
    progress = Trainer(config, data_dir, tmp_path, FakeClock(step_s=10.0)).run()

    assert progress.step == 6  # ten seconds each, and the last evaluation
    assert (tmp_path / "ckpt.pt").is_file()


def test_accumulated_small_batches_are_one_large_step(data_dir: Path, tmp_path: Path) -> None:
    losses = []
    for batch_size, accumulation in ((8, 1), (2, 4)):
        config = tiny(max_steps=3, batch_size=batch_size, accumulation=accumulation, log_every=1)
        out_dir = tmp_path / str(batch_size)
        Trainer(config, data_dir, out_dir).run()
        losses.append([one["loss"] for one in RunLog(out_dir / LOG).records() if "loss" in one])

    assert losses[0] == pytest.approx(losses[1], abs=1e-4)  # the same sums in another order


def test_log_tells_what_runs_then_loss_rate_and_speed(data_dir: Path, tmp_path: Path) -> None:
    Trainer(tiny(max_steps=10), data_dir, tmp_path).run()
    start, step, evaluation = RunLog(tmp_path / LOG).records()

    assert start["num_processes"] == 1
    assert step["loss"] > 0
    assert step["grad_norm"] > 0
    assert 0 < step["learning_rate"] <= 1e-2
    assert 0 < step["peak_share"] < 1
    assert evaluation["val_loss"] == evaluation["best_val_loss"]


def test_curve_is_a_picture(data_dir: Path, tmp_path: Path) -> None:
    Trainer(tiny(max_steps=20), data_dir, tmp_path).run()

    assert (tmp_path / CURVE).read_bytes().startswith(b"\x89PNG")


def test_run_ends_when_it_stops_getting_better(data_dir: Path, tmp_path: Path) -> None:
    # a rate of 0 changes nothing, so that no validation after the first is a new best
    config = tiny(learning_rate=0.0, min_learning_rate=0.0, eval_every=2, patience=3)
    progress = Trainer(config, data_dir, tmp_path).run()
    again = Trainer(config, data_dir, tmp_path)
    again.resume()

    assert progress.step == 8
    assert again.run().step == 8


def test_loss_that_is_no_number_ends_the_run(data_dir: Path, tmp_path: Path) -> None:
    trainer = Trainer(tiny(), data_dir, tmp_path)
    with torch.no_grad():
        trainer.learner.model.lm_head.weight.fill_(float("nan"))

    with pytest.raises(TrainingError, match=r"loss is nan at step 1.*lower learning_rate"):
        trainer.run()
    assert not (tmp_path / LAST).exists()


def test_accumulation_must_share_out_evenly(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="accumulation is 3, 2 processes"):
        Trainer(tiny(accumulation=3), data_dir, tmp_path, place=Place(size=2))


def test_fim_runs_and_leaves_the_held_out_text_alone(data_dir: Path, tmp_path: Path) -> None:
    plain, filled = (
        Trainer(tiny(max_steps=1, fim_rate=rate), data_dir, tmp_path) for rate in (0.0, 1.0)
    )
    middle = load_tokenizer(data_dir).special_tokens["<|fim_middle|>"]

    assert (filled.learner.streams.train.rows(0, 8) == middle).any(axis=1).all()
    assert np.array_equal(
        filled.learner.streams.val.rows(0, 8), plain.learner.streams.val.rows(0, 8)
    )
    assert filled.run().step == 1


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own import
def test_compiled_model_trains_the_same(data_dir: Path, tmp_path: Path) -> None:
    losses = [
        Trainer(tiny(max_steps=2, compile=compiled), data_dir, tmp_path).run().best_val_loss
        for compiled in (False, True)
    ]

    assert losses[0] == pytest.approx(losses[1], abs=1e-4)  # fused sums in another order


def test_bfloat16_trains_too(data_dir: Path, tmp_path: Path) -> None:
    progress = Trainer(tiny(dtype="bfloat16", max_steps=20), data_dir, tmp_path).run()

    assert progress.best_val_loss < 6.0


def test_failed_write_leaves_the_old_checkpoint(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(tiny(max_steps=1), data_dir, tmp_path)
    trainer.run()
    before = (tmp_path / "ckpt.pt").read_bytes()

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        Trainer(tiny(max_steps=2), data_dir, tmp_path).run()
    assert (tmp_path / "ckpt.pt").read_bytes() == before


def test_resume_into_another_architecture_is_refused(data_dir: Path, tmp_path: Path) -> None:
    Trainer(tiny(max_steps=1), data_dir, tmp_path).run()

    with pytest.raises(CheckpointError, match=r"n_layer=2.*n_layer=1"):
        Trainer(tiny(n_layer=1), data_dir, tmp_path).resume()


def test_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ckpt.pt").write_bytes(b"not a checkpoint")

    with pytest.raises(CheckpointError, match=r"cannot read .*ckpt\.pt"):
        load_checkpoint(tmp_path / "ckpt.pt")


def test_missing_and_short_data_are_refused(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"train\.bin is missing"):
        Trainer(tiny(), tmp_path, tmp_path)
    with pytest.raises(CorpusError, match="lower block_size"):
        Trainer(tiny(block_size=10**6), data_dir, tmp_path)


def test_finished_run_is_not_overwritten(data_dir: Path, tmp_path: Path) -> None:
    Trainer(tiny(max_steps=1), data_dir, tmp_path).run()

    with pytest.raises(CheckpointError, match="go on with --resume or give another --out"):
        Trainer(tiny(), data_dir, tmp_path).refuse_overwriting()


def test_resume_tells_which_settings_changed(data_dir: Path, tmp_path: Path) -> None:
    Trainer(tiny(max_steps=1), data_dir, tmp_path).run()
    again = Trainer(tiny(max_steps=2), data_dir, tmp_path)
    again.resume()
    again.run()

    starts = [one for one in RunLog(tmp_path / LOG).records() if "num_processes" in one]
    assert [one.get("changed") for one in starts] == [None, {"max_steps": [1, 2]}]
