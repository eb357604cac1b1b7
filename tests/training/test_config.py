"""Settings are checked by name, and the schedule follows them."""

from dataclasses import fields
from pathlib import Path

import pytest

from training.config import TrainConfig, describe_settings, load_config
from training.errors import ConfigError
from training.schedule import learning_rate, used_share


def test_schedule_warms_up_and_anneals_to_the_end() -> None:
    config = TrainConfig(learning_rate=1.0, min_learning_rate=0.1, warmup_share=0.1, max_steps=100)
    rates = [learning_rate(config, used_share(config, step, 0.0)) for step in range(101)]

    assert 0.0 < rates[0] < 0.02
    assert rates[10] == max(rates) == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0.1)


def test_larger_share_of_steps_and_minutes_counts() -> None:
    config = TrainConfig(max_steps=100, max_minutes=10.0)

    assert used_share(config, step=50, elapsed_s=60.0) == 0.5
    assert used_share(config, step=50, elapsed_s=540.0) == 0.9


def test_settings_come_from_file_then_overrides(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"n_layer": 3, "n_head": 8, "n_embd": 64}')
    config = load_config(path, ["n_layer=2", "dtype=bfloat16", "learning_rate=1"])

    assert (config.n_layer, config.n_head, config.dtype) == (2, 8, "bfloat16")
    assert config.learning_rate == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("n_layers=3", "unknown setting 'n_layers'"),
        ("n_layer=three", "n_layer is 'three', it must be <class 'int'>"),
        ("n_layer", "write it as name=value"),
        ("dtype=float16", "dtype is 'float16'"),
        ("optimizer=sgd", "optimizer is 'sgd', it must be one of adamw, muon"),
        ("batch_size=0", "batch_size is 0"),
        ("max_steps=0", "one must be above 0"),
        ("warmup_share=1", "warmup_share is 1"),
        ("min_learning_rate=1", "min_learning_rate is 1"),
        ("fim_rate=1.5", "fim_rate is 1.5, it must lie between 0 and 1"),
        ("patience=-1", "patience is -1"),
    ],
)
def test_wrong_setting_is_refused_by_name(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, [override])


def test_unknown_setting_in_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"n_layers": 3}')

    with pytest.raises(ConfigError, match=r"config\.json: unknown setting 'n_layers'"):
        load_config(path)


def test_toml_file_is_read(tmp_path: Path) -> None:
    pytest.importorskip("tomllib")  # Python 3.11
    path = tmp_path / "config.toml"
    path.write_text('n_layer = 3  # small\ndtype = "auto"\n')

    assert load_config(path) == TrainConfig(n_layer=3, dtype="auto")


def test_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("n_layer = 3")

    with pytest.raises(ConfigError, match=r"cannot read .*config\.json .*JSON or TOML"):
        load_config(tmp_path / "config.json")


def test_every_setting_has_help() -> None:
    assert all(field.metadata["help"] for field in fields(TrainConfig))
    assert "  fim_rate=0.0  " in describe_settings()
