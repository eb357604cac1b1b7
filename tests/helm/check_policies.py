"""Operators' schemas and checkov's policies, over every scenario; for `make chart-test`."""

import json
from pathlib import Path

import yaml

from tests.helm.charts import ROOT, SCENARIOS, rendered
from tests.helm.test_rendering import CUSTOM
from tests.helm.tools import CHECKOV, FOLDER, run

SCRIPT = Path(__file__).with_name("custom_resources.mjs")


def test_custom_resources_are_of_their_operators_schemas() -> None:
    custom = [one for name in SCENARIOS for one in rendered(name) if one["kind"] in CUSTOM]
    done = run("node", SCRIPT, FOLDER, text=json.dumps(custom))

    assert {one["kind"] for one in custom} == CUSTOM
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_custom_resource_that_is_wrong_is_found() -> None:
    about = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "a"}}
    done = run("node", SCRIPT, FOLDER, text=json.dumps([{**about, "spec": {"triggers": []}}]))

    assert "ScaledObject a: " in done.stdout


def test_checkov_finds_nothing_that_is_not_justified(tmp_path: Path) -> None:
    for name in SCENARIOS:
        # Of the oldest Kubernetes, which checkov knows best; the newest differs in volumes alone.
        text = yaml.safe_dump_all(rendered(name, "v1.29.0"))
        (tmp_path / f"{name}.yaml").write_text(text)
    config = ROOT / "helm" / "checkov.yaml"
    done = run(CHECKOV, "--directory", tmp_path, "--config-file", config, "--output", "json")

    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    faults = {
        f"{one['check_id']} {one['check_name']}: {one['resource']} of {one['file_path']}"
        for one in found["results"]["failed_checks"]
    }
    assert found["summary"]["passed"] > 1000
    assert not faults, "\n".join(sorted(faults))
