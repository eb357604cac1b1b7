"""The chart rendered by real Helm, and ways to look at what came out.

The library holds Helm 4 and takes 269 MB, so it is imported where something is rendered.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
CHART = ROOT / "helm" / "nanotriton"
VERSIONS = ("v1.29.0", "v1.33.0", "v1.37.0")
SCENARIOS = tuple(sorted(path.stem for path in (CHART / "ci").glob("*.yaml")))
EACH = tuple((scenario, version) for scenario in SCENARIOS for version in VERSIONS)
RELEASE, NAMESPACE = "rel", "prod"

Manifest = dict[str, Any]


def values_of(scenario: str) -> dict[str, Any]:
    """The values of a file in ci/."""
    return yaml.safe_load((CHART / "ci" / f"{scenario}.yaml").read_text()) or {}


@cache
def rendered(scenario: str, version: str = VERSIONS[-1]) -> tuple[Manifest, ...]:
    """What a file in ci/ makes; to be read only."""
    return tuple(render(values_of(scenario), version))


def render(values: dict[str, Any], version: str = VERSIONS[-1]) -> list[Manifest]:
    """What any values make; raises HelmError for values that won't do."""
    files = render_files(values, version)
    texts = [text for name, text in files.items() if not name.endswith("NOTES.txt")]
    found = (yaml.load_all(text, yaml.CSafeLoader) for text in texts)
    return [one for documents in found for one in documents if one]


def render_files(values: dict[str, Any], version: str = VERSIONS[-1]) -> dict[str, str]:
    """By the template's path what it makes, NOTES.txt too."""
    import helm_python  # noqa: PLC0415
    from helm_python import _native  # noqa: PLC0415

    # The one call with a Kubernetes version; the library has it below its public names.
    release = {"name": RELEASE, "namespace": NAMESPACE, "kube_version": version, "api_versions": []}
    with helm_python.Chart.load(str(CHART)) as chart:
        made = _native.call_string(
            "helm_render", chart._raw(), json.dumps(values), json.dumps(release)
        )
    files: dict[str, str] = json.loads(made)
    return files


def named(manifests: tuple[Manifest, ...] | list[Manifest], kind: str) -> dict[str, Manifest]:
    """The objects of a kind by their names."""
    return {one["metadata"]["name"]: one for one in manifests if one["kind"] == kind}


def pods(manifests: tuple[Manifest, ...] | list[Manifest]) -> Iterator[tuple[Manifest, Manifest]]:
    """Each object that makes pods, with the pod's template."""
    for one in manifests:
        if one["kind"] == "Pod":
            yield one, one
        elif one["kind"] == "CronJob":
            yield one, one["spec"]["jobTemplate"]["spec"]["template"]
        elif "template" in one.get("spec", {}):
            yield one, one["spec"]["template"]


def workloads(manifests: tuple[Manifest, ...] | list[Manifest]) -> list[Manifest]:
    """What runs on and on: StatefulSets and Deployments."""
    return [one for one in manifests if one["kind"] in ("StatefulSet", "Deployment")]


def containers(template: Manifest) -> list[Manifest]:
    """A pod's containers, those first that run first."""
    spec = template["spec"]
    return [*spec.get("initContainers", ()), *spec["containers"]]


def is_part(selector: dict[str, str], labels: dict[str, str]) -> bool:
    """Whether a selector's labels are among others."""
    return selector.items() <= labels.items()
