"""Install, upgrade, rollback, uninstall by the real Helm client, against a stand-in of the API."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.helm.api_stand_in import Cluster, running_cluster
from tests.helm.charts import CHART, NAMESPACE, RELEASE, render, values_of

TIMEOUT_S = 60


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with running_cluster() as running:
        yield running


@pytest.fixture
def helm(cluster: Cluster) -> Iterator[Any]:
    """Helm's client for that cluster; it sends releases as protobuf, so it keeps them itself."""
    import helm_python  # noqa: PLC0415

    options = {"namespace": NAMESPACE, "storage_driver": "memory"}
    with helm_python.Config(kubeconfig_content=cluster.kubeconfig, **options) as client:
        yield client


def pods_of(cluster: Cluster) -> int:
    replicas: int = cluster.of("StatefulSet")["rel-nanotriton-stable"]["spec"]["replicas"]
    return replicas


def backends_of(cluster: Cluster) -> int:
    gateway = cluster.of("StatefulSet")["rel-nanotriton-gateway"]
    words = gateway["spec"]["template"]["spec"]["containers"][0]["args"]
    return sum(word.startswith("--backend=") for word in words)


def secret_of(cluster: Cluster) -> str:
    secret: str = cluster.of("Secret")["rel-nanotriton-jwt"]["data"]["secret"]
    return secret


def test_install_sends_what_is_rendered_and_runs_the_hook_last(cluster: Cluster, helm: Any) -> None:
    helm.install(str(CHART), RELEASE, {}, timeout=TIMEOUT_S)

    asked = [(plural, name) for verb, plural, name in cluster.asked if verb in ("create", "patch")]
    wanted = {one["metadata"]["name"] for one in render({})} - {"rel-nanotriton-test"}
    assert {name for _, name in asked} == wanted
    assert asked[-1] == ("jobs", "rel-nanotriton-routes")


def test_upgrade_and_rollback_change_what_they_should_and_keep_the_secret(
    cluster: Cluster, helm: Any
) -> None:
    helm.install(str(CHART), RELEASE, {}, timeout=TIMEOUT_S)
    secret = secret_of(cluster)

    helm.upgrade(str(CHART), RELEASE, {"server": {"replicas": 3}}, timeout=TIMEOUT_S)
    upgraded = (pods_of(cluster), backends_of(cluster), secret_of(cluster))
    helm.rollback(RELEASE, version=1, timeout=TIMEOUT_S)
    rolled_back = (pods_of(cluster), backends_of(cluster), secret_of(cluster))

    assert upgraded == (3, 3, secret)
    assert rolled_back == (1, 1, secret)
    assert [one["revision"] for one in helm.history(RELEASE)] == [1, 2, 3]
    routes = [one for one in cluster.asked if one == ("patch", "jobs", "rel-nanotriton-routes")]
    assert len(routes) == 3


def test_a_refused_upgrade_changes_nothing(cluster: Cluster, helm: Any) -> None:
    import helm_python  # noqa: PLC0415

    helm.install(str(CHART), RELEASE, {}, timeout=TIMEOUT_S)
    before = {key: one["metadata"]["resourceVersion"] for key, one in cluster.objects.items()}

    with pytest.raises(helm_python.HelmError, match="several gateways share one PostgreSQL"):
        helm.upgrade(str(CHART), RELEASE, {"gateway": {"replicas": 2}}, timeout=TIMEOUT_S)

    assert before == {
        key: one["metadata"]["resourceVersion"] for key, one in cluster.objects.items()
    }


def test_a_cluster_that_is_too_old_is_refused(cluster: Cluster, helm: Any) -> None:
    import helm_python  # noqa: PLC0415

    cluster.version = "v1.28.0"

    with pytest.raises(helm_python.HelmError, match=r">=1\.29\.0"):
        helm.install(str(CHART), RELEASE, {}, timeout=TIMEOUT_S)


def test_uninstall_leaves_the_copies_alone(cluster: Cluster, helm: Any) -> None:
    values = {**values_of("backup"), "backup": {"enabled": True}}
    helm.install(str(CHART), RELEASE, values, timeout=TIMEOUT_S)

    helm.uninstall(RELEASE, timeout=TIMEOUT_S)

    assert [key[2] for key in cluster.objects] == ["rel-nanotriton-backup"]
