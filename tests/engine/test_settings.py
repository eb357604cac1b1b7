"""Settings told by name: their words are options of the engine, others are refused."""

import pytest

from nanotriton.engine.process import build_parser
from nanotriton.engine.settings import SETTINGS, read_settings, words_of
from nanotriton.errors import ServerError


def test_every_setting_is_an_option_of_the_engine() -> None:
    settings = {name: words[-1] if words else "3" for name, words in SETTINGS.items()}
    parsed = vars(build_parser().parse_args([".", "--socket", "s", *words_of(settings)]))

    assert {name: str(parsed[name]) for name in settings} == settings
    assert parsed.keys() - settings.keys() == {"folder", "socket"}


def test_the_last_one_of_a_name_holds() -> None:
    assert read_settings(["threads=1", "speculation=off", "threads=2"]) == {
        "threads": "2",
        "speculation": "off",
    }


def test_other_parameters_of_a_model_are_no_words() -> None:
    assert words_of({"FORCE_CPU_ONLY_INPUT_TENSORS": "no", "threads": "2"}) == ["--threads", "2"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("thread=2", "the engine has no setting 'thread', it has max_slots, "),
        ("threads", "threads is '', needed is a whole number"),
        ("threads=-1", "threads is '-1', needed is a whole number"),
        ("max_slots=2 3", "max_slots is '2 3', needed is a whole number"),
        ("speculation=yes", "speculation is 'yes', needed is on or off"),
        ("native_attention=on", "native_attention is 'on', needed is auto or off"),
    ],
)
def test_what_is_no_setting_is_refused_with_what_is(text: str, sentence: str) -> None:
    with pytest.raises(ServerError) as refusal:
        read_settings([text])

    assert str(refusal.value).startswith(f"--engine {text}: {sentence}")
