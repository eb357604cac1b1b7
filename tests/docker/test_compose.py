"""compose.yaml, by its schema and by a real docker-compose; nothing is pulled or started."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from running import ROOT

import gateway.__main__ as gateway
import nanotriton.__main__ as nanotriton
from tests.docker.test_dockerfiles import of_venv

COMPOSE = ROOT / "docker" / "compose.yaml"
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
VARIABLES = ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "GRAFANA_PASSWORD")
SECRETS = dict.fromkeys(VARIABLES, "0123abcd")


def configure(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """What docker-compose makes of the file."""
    program = shutil.which("docker-compose")
    assert program, "docker-compose is missing: install it with apt-get install docker-compose"
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment}
    command = [program, "-f", COMPOSE, *words, "config"]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


@pytest.mark.parametrize("name", ["compose.yaml", "compose.models.yaml"])
def test_schema_of_compose_is_kept(name: str) -> None:
    command = [of_venv("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*command, COMPOSE.parent / name], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout


def test_each_profile_has_one_server_under_the_same_name() -> None:
    done = configure(COMPOSE_PROFILES="cpu", **SECRETS)
    services = yaml.safe_load(done.stdout)["services"]
    profiles = {name: one["profiles"] for name, one in services.items() if "profiles" in one}

    assert done.returncode == 0, done.stderr
    assert profiles == {"server-cpu": ["cpu"], "server-gpu": ["gpu"]}
    assert {*services} == {*SERVICES}
    for name in profiles:
        assert services[name]["networks"] == {"back": {"aliases": ["server"]}}


@pytest.mark.parametrize("missing", VARIABLES)
def test_missing_secret_is_told_in_one_line(missing: str) -> None:
    given = {name: value for name, value in SECRETS.items() if name != missing}
    done = configure(COMPOSE_PROFILES="cpu", **given)

    assert done.returncode != 0
    assert missing in done.stderr
    assert "run make secrets first" in done.stderr
    assert "Traceback" not in done.stderr


def test_secrets_are_random_kept_and_closed_to_others(tmp_path: Path) -> None:
    for _ in range(2):
        folders = [tmp_path / "one", tmp_path / "two"]
        for one in folders:
            subprocess.run([ROOT / "docker" / "secrets.sh", one], check=True, capture_output=True)
        texts = [(one / ".env").read_text() for one in folders]
    [first, second] = [re.findall(r"^(\w+)=([0-9a-f]{64})$", text, re.MULTILINE) for text in texts]

    assert [name for name, _ in first] == list(VARIABLES)
    assert not {value for _, value in first} & {value for _, value in second}
    assert len({value for _, value in first}) == 3
    assert (folders[0] / ".env").stat().st_mode & 0o777 == 0o600
    assert (folders[0] / "secrets").stat().st_mode & 0o777 == 0o700
    named = {
        Path(one["file"]).name for one in yaml.safe_load(COMPOSE.read_text())["secrets"].values()
    }
    assert {one.name for one in (folders[0] / "secrets").iterdir()} == named


def test_secrets_once_made_stay(tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        subprocess.run([ROOT / "docker" / "secrets.sh", tmp_path], check=True, capture_output=True)
        files = [one for one in tmp_path.rglob("*") if one.is_file()]
        seen.append({one.name: one.read_bytes() for one in files})

    assert seen[0] == seen[1]


@pytest.mark.parametrize("name", SERVICES)
def test_service_is_hardened_and_watched(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "mem_limit" in service
    assert service.keys() & {"healthcheck", "build"}  # our images have their own
    assert re.search(
        r":(v?\d+\.\d+(\.\d+)?(-alpine)?|\$\{VERSION:-0\.1\.0\}(-demo)?)$", service["image"]
    )


def test_ways_lead_through_the_gateway_alone() -> None:
    on = {
        network: {name for name, one in SERVICES.items() if network in one["networks"]}
        for network in ("front", "back")
    }
    published = {
        name: port
        for name, one in SERVICES.items()
        for port in one.get("ports", ())
        if not port.startswith("127.0.0.1:")
    }

    assert on["front"] & on["back"] == {"gateway"}
    assert {*published} == {"nginx"}
    assert yaml.safe_load(COMPOSE.read_text())["networks"]["back"] == {"internal": True}


@pytest.mark.parametrize(
    ("service", "parser"),
    [
        ("server-cpu", nanotriton.build_parser()),
        ("server-gpu", nanotriton.build_parser()),
        ("gateway", gateway.build_parser()),
    ],
    ids=["server-cpu", "server-gpu", "gateway"],
)
def test_command_is_one_of_ours(service: str, parser: Any) -> None:
    assert parser.parse_args(SERVICES[service]["command"])


def test_models_of_ones_own_take_the_demos_place() -> None:
    own = COMPOSE.parent / "compose.models.yaml"
    done = configure("-f", str(own), COMPOSE_PROFILES="cpu", MODELS="/srv/models", **SECRETS)
    server = yaml.safe_load(done.stdout)["services"]["server-cpu"]

    assert server["volumes"] == ["/srv/models:/models:ro"]
    assert server["image"] == "nanotriton/server-cpu:0.1.0"


def test_versions_are_those_of_the_project() -> None:
    [version] = re.findall(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M)

    assert json.dumps(SERVICES).count(f"VERSION:-{version}") == 3
