"""What can be set of the engine, and how it is told.

Comes in: `parameters` of gpt/config.pbtxt, and NAME=VALUE of `nanotriton serve --engine`, which
outranks them. Goes out: words of the engine's command line. Raises ServerError for a setting that
is none. Knows nothing of what the settings do.
"""

from collections.abc import Iterable, Mapping

from nanotriton.errors import ServerError

# Where `serve` tells the engine's process of its own settings, with spaces between them.
ENVIRONMENT = "NANOTRITON_ENGINE"
SWITCH = ("on", "off")
# The words that a setting takes; none of them: a whole number.
SETTINGS: Mapping[str, tuple[str, ...]] = {
    "max_slots": (),
    "kv_cache_bytes": (),
    "max_waiting": (),
    "prefill_chunk": (),
    "threads": (),
    "spinning": SWITCH,
    "prefix_cache": SWITCH,
    "speculation": SWITCH,
    "isolate_users": SWITCH,
    "deterministic": SWITCH,
    "native_attention": ("auto", "off"),
    "max_decode_rows": (),
    "stream_interval_ms": (),
    "step_timeout_ms": (),
}


def read_settings(texts: Iterable[str]) -> dict[str, str]:
    """Settings by name from NAME=VALUE; the last one of a name holds."""
    return dict(_read(text) for text in texts)


def words_of(settings: Mapping[str, str]) -> list[str]:
    """The engine's command line for settings; what is no setting is left out."""
    return [
        word
        for name in SETTINGS
        if name in settings
        for word in (f"--{name.replace('_', '-')}", settings[name])
    ]


def _read(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if name not in SETTINGS:
        raise ServerError(
            f"--engine {text}: the engine has no setting {name!r}, it has {', '.join(SETTINGS)}"
        )
    words = SETTINGS[name]
    if not (value in words if words else value.isascii() and value.isdecimal()):
        allowed = " or ".join(words) or "a whole number"
        raise ServerError(f"--engine {text}: {name} is {value!r}, needed is {allowed}")
    return name, value
