"""Helm 3 makes of the chart what Helm 4 makes, and installs it; for `make chart-test`."""

import base64
import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.helm.api_stand_in import Cluster, running_cluster
from tests.helm.charts import CHART, EACH, NAMESPACE, RELEASE, Manifest, rendered
from tests.helm.tools import HELM3, run


def keyed(manifests: Iterator[Manifest] | tuple[Manifest, ...]) -> dict[tuple[str, str], Manifest]:
    """By kind and name; the secret that is made anew each time is left out of itself."""
    found = {(one["kind"], one["metadata"]["name"]): one for one in manifests if one}
    for key, one in found.items():
        if key[0] == "Secret":
            found[key] = {**one, "data": sorted(one["data"])}
    return found


@pytest.mark.parametrize(("scenario", "version"), EACH)
def test_helm_3_renders_what_helm_4_renders(scenario: str, version: str) -> None:
    values = CHART / "ci" / f"{scenario}.yaml"
    words = ("template", RELEASE, CHART, "--namespace", NAMESPACE, "--kube-version", version)
    done = run(HELM3, *words, "--values", values)

    assert done.returncode == 0, done.stderr
    assert keyed(yaml.load_all(done.stdout, yaml.CSafeLoader)) == keyed(rendered(scenario, version))


def test_helm_3_refuses_an_unknown_value() -> None:
    done = run(HELM3, "template", RELEASE, CHART, "--set", "replicaCount=3")

    assert done.returncode == 1
    assert "replicaCount" in done.stderr


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with running_cluster() as running:
        yield running


def helm(cluster: Cluster, folder: Path, *words: str | Path) -> str:
    """Helm 3 on that cluster; what it prints."""
    (folder / "kubeconfig").write_text(cluster.kubeconfig)
    where = ("--namespace", NAMESPACE, "--kubeconfig", folder / "kubeconfig")
    done = run(HELM3, *words, *where, HELM_CACHE_HOME=str(folder))
    assert done.returncode == 0, done.stderr
    return done.stdout


def pods_of(cluster: Cluster) -> int:
    replicas: int = cluster.of("StatefulSet")["rel-nanotriton-stable"]["spec"]["replicas"]
    return replicas


def test_a_release_lives_and_goes(cluster: Cluster, tmp_path: Path) -> None:
    seen = []
    # The stand-in has no schemas to hold objects against; the tests' own are stricter.
    unchecked = "--disable-openapi-validation"
    notes = helm(cluster, tmp_path, "install", RELEASE, CHART, unchecked)
    seen.append(pods_of(cluster))
    helm(cluster, tmp_path, "test", RELEASE)
    words = ("--set", "server.replicas=3", unchecked)
    helm(cluster, tmp_path, "upgrade", RELEASE, CHART, *words)
    seen.append(pods_of(cluster))
    helm(cluster, tmp_path, "rollback", RELEASE, "1")
    seen.append(pods_of(cluster))
    history = json.loads(helm(cluster, tmp_path, "history", RELEASE, "--output", "json"))
    kept = [release_of(one) for one in cluster.of("Secret").values() if "release" in one["data"]]
    helm(cluster, tmp_path, "uninstall", RELEASE)

    assert seen == [1, 3, 1]
    assert "gateway keys create" in notes
    assert ("create", "pods", "rel-nanotriton-test") in cluster.asked
    assert [one["revision"] for one in history] == [1, 2, 3]
    assert {one["name"] for one in kept} == {RELEASE}
    # Helm leaves hooks to their own policy: the test's pod stays to be looked at.
    assert [key[2] for key in cluster.objects] == ["rel-nanotriton-test"]


def release_of(secret: Manifest) -> Manifest:
    """A release as Helm keeps it in a Secret."""
    packed = base64.b64decode(base64.b64decode(secret["data"]["release"]))
    release: Manifest = json.loads(gzip.decompress(packed))
    return release
