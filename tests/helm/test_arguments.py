"""Every word that a container is started with is one that the real command line takes."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import export.__main__ as export
import gateway.__main__ as gateway
import nanotriton.__main__ as nanotriton
from gateway.command import config_of
from gateway.routing.document import read_document
from nanotriton import probe
from nanotriton.engine.settings import SETTINGS, read_settings
from tests.helm.charts import CHART, Manifest, containers, named, pods, render, rendered

PARSERS = {
    "nanotriton": nanotriton.build_parser(),
    "nanotriton.probe": probe.build_parser(),
    "gateway": gateway.build_parser(),
    "export": export.build_parser(),
}
Manifests = tuple[Manifest, ...]


def commands(manifests: Manifests) -> Iterator[tuple[str, list[str]]]:
    """The package and the words of each `python3 -m PACKAGE WORDS`, of containers and probes."""
    for _, template in pods(manifests):
        for one in containers(template):
            started = [*one.get("command", []), *one.get("args", [])]
            asked = one.get("readinessProbe", {}).get("exec", {}).get("command", [])
            for command in (started, asked):
                if command[:2] == ["python3", "-m"]:
                    yield command[2], command[3:]


def test_containers_arguments_are_taken(manifests: Manifests) -> None:
    parsed = [(name, PARSERS[name].parse_args(words)) for name, words in commands(manifests)]

    assert {"nanotriton", "nanotriton.probe", "gateway"} <= {name for name, _ in parsed}


def test_gateways_arguments_make_a_configuration(manifests: Manifests, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s" * 48)
    for name, words in commands(manifests):
        if name == "gateway" and words[0] == "serve":
            here = [re.sub(r"/secrets/\w+/\w+", str(secret), word) for word in words]
            config = config_of(PARSERS["gateway"].parse_args(here))
            assert config.crowding.max_running >= 8
            assert not config.is_open


def settings_of(manifests: Manifests | list[Manifest]) -> list[dict[str, str]]:
    """What the engine of each server is set to."""
    parsed = [(name, PARSERS[name].parse_args(words)) for name, words in commands(manifests)]
    return [read_settings(args.engine) for name, args in parsed if name == "nanotriton"]


def test_engines_have_the_slots_that_gateways_count_on(manifests: Manifests) -> None:
    assert all(int(one["max_slots"]) >= 8 for one in settings_of(manifests))


def test_settings_come_as_the_engine_takes_them() -> None:
    engine = {"kv_cache_bytes": 1 << 34, "isolate_users": True, "native_attention": False}
    pool = {"slots": 7, "engine": {"threads": 4, "isolate_users": "off"}}
    common = {"max_slots": "32", "kv_cache_bytes": "17179869184", "native_attention": "off"}

    found = settings_of(render({"server": {"engine": engine}, "pools": {"b": pool}}))

    assert {**common, "isolate_users": "on"} in found
    assert {**common, "max_slots": "7", "threads": "4", "isolate_users": "off"} in found
    assert len(found) == 2


def test_schema_has_the_engines_settings_and_their_words() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())["definitions"]
    own = schema["pool"]["properties"]["engine"]["properties"]
    switch = schema["switch"]
    words = {
        name: one.get("enum", switch["enum"] if "$ref" in one else []) for name, one in own.items()
    }

    assert {**words, "max_slots": []}.keys() == SETTINGS.keys()
    assert {name: {w for w in one if isinstance(w, str)} for name, one in words.items()} == {
        name: {*one} for name, one in SETTINGS.items() if name != "max_slots"
    }


def test_plan_script_calls_export_as_it_is() -> None:
    script = (CHART / "files" / "plan.sh").read_text()
    lines = re.findall(r"^python3 -m export (.*)$", script, re.MULTILINE)
    filled = [re.sub(r'"?\$\w+"?', "1", line) for line in lines]

    parsed = [PARSERS["export"].parse_args(shlex.split(line)) for line in filled]

    assert [one.stage.__name__ for one in parsed] == ["plan_stage", "repository_stage"]


def test_routes_are_a_document_that_gateways_take(manifests: Manifests) -> None:
    for name, one in named(manifests, "ConfigMap").items():
        if name.endswith("-routes"):
            document = read_document(json.loads(one["data"]["routes.json"]))
            assert any(backend.weight for backend in document.backends)


@pytest.mark.parametrize(
    ("scenario", "weights"),
    [
        ("canary", {"stable-0": 4.75, "stable-3": 4.75, "canary-0": 1}),
        ("blue-green", {"blue-0": 1, "green-1": 0}),
    ],
    ids=["canary", "blue-green"],
)
def test_pools_weights_are_in_the_routes(scenario: str, weights: dict[str, float]) -> None:
    routes = named(rendered(scenario), "ConfigMap")["rel-nanotriton-routes"]
    backends = json.loads(routes["data"]["routes.json"])["backends"]

    assert weights.items() <= {one["name"]: one["weight"] for one in backends}.items()
