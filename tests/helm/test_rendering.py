"""Every scenario on every Kubernetes: lint finds nothing, and the schemas know every field."""

import pytest

from tests.helm.charts import CHART, EACH, SCENARIOS, VERSIONS, Manifest, rendered, values_of
from tests.helm.schemas import faults_of

# Of operators, not of Kubernetes; `make chart-test` holds them against the operators' own schemas.
CUSTOM = {"PodMonitor", "ServiceMonitor", "PrometheusRule", "ScaledObject", "HTTPRoute"}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_strict_lint_finds_nothing(scenario: str, version: str) -> None:
    import helm_python  # noqa: PLC0415

    found = helm_python.lint(str(CHART), values_of(scenario), strict=True, kube_version=version)

    assert not [one for one in found.get("messages") or () if one.get("severity", 0) > 1]


@pytest.mark.parametrize(("scenario", "version"), EACH)
def test_objects_are_of_kubernetes_own_schema(scenario: str, version: str) -> None:
    ours = [one for one in rendered(scenario, version) if one["kind"] not in CUSTOM]

    assert len(ours) > 8
    assert not [
        f"{one['kind']} {one['metadata']['name']} {fault}"
        for one in ours
        for fault in faults_of(one, version)
    ]


def test_a_misspelled_field_is_a_fault() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"nmae": "a"}}

    assert faults_of(pod, VERSIONS[0])


def test_every_kind_that_is_ordered_is_made_by_some_scenario() -> None:
    kinds = {one["kind"] for scenario in SCENARIOS for one in rendered(scenario)}

    assert kinds >= CUSTOM | {
        *("StatefulSet", "Deployment", "Service", "ServiceAccount", "ConfigMap", "Secret"),
        *("Ingress", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"),
        *("CronJob", "Job", "Pod", "PersistentVolumeClaim"),
    }


def test_names_are_of_the_release_and_told_once(manifests: tuple[Manifest, ...]) -> None:
    names = [(one["kind"], one["metadata"]["name"]) for one in manifests]

    assert len(names) == len({*names})
    # The one that a StatefulSet names by itself has its volume before.
    assert all("rel-nanotriton" in name for _, name in names)
