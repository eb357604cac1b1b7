"""Values that won't do are refused before anything is sent to a cluster, in words that help."""

from typing import Any

import pytest

from tests.helm.charts import render

DATABASE = {"existingSecret": "gateway-postgres"}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"replicaCount": 3}, "replicaCount"),
        ({"server": {"modell": {}}}, "modell"),
        ({"pools": {"canary": {"wieght": 1}}}, "wieght"),
        ({"pools": {"Canary": {}}}, "Canary"),
        ({"placement": "beside"}, "placement"),
        ({"server": {"model": {"source": "http"}}}, "source"),
        ({"server": {"gpus": "one"}}, "gpus"),
        ({"server": {"sharedMemory": "256 MB"}}, "sharedMemory"),
        ({"server": {"shadow": 1.5}}, "shadow"),
        ({"server": {"engine": {"thread": 2}}}, "thread"),
        ({"server": {"engine": {"max_waiting": 0}}}, "max_waiting"),
        ({"pools": {"b": {"engine": {"speculation": "yes"}}}}, "speculation"),
        ({"gateway": {"keyLimits": {"requests": 1}}}, "requests"),
        ({"gateway": {"modelName": "my model"}}, "modelName"),
        ({"service": {"type": "NodePort"}}, "type"),
        ({"backup": {"schedule": "nightly"}}, "schedule"),
        ({"backup": {"restore": "../secrets"}}, "restore"),
        ({"tracing": {"url": "collector:4318"}}, "url"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_schema_names_the_value_that_is_wrong(values: dict[str, Any], named: str) -> None:
    import helm_python  # noqa: PLC0415

    with pytest.raises(helm_python.HelmValuesError, match=named):
        render(values)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"pools": {"stable": None}}, "pools is empty: keep at least one"),
        ({"server": {"weight": 0}}, "no pool has a weight above 0"),
        ({"server": {"replicas": 65}}, "replicas"),
        (
            {"server": {"replicas": 40}, "pools": {"b": {}}},
            "may have 80 pods, gateways know at most",
        ),
        ({"gateway": {"replicas": 2}}, "several gateways share one PostgreSQL"),
        ({"gateway": {"autoscaling": {"enabled": True}}}, "several gateways share one PostgreSQL"),
        ({"placement": "sidecar"}, "keys and accounts would go with the pod"),
        ({"gateway": {"state": {"kind": "emptyDir"}}}, "keys and accounts would go with the pod"),
        ({"gateway": {"timeoutSeconds": 90, "maxTimeoutSeconds": 60}}, "timeoutSeconds is 90"),
        ({"gateway": {"insight": "near"}, "service": {"type": "LoadBalancer"}}, "insight=admin"),
        ({"monitoring": {"enabled": True}}, "Prometheus needs a token"),
        ({"httpRoute": {"enabled": True}}, "httpRoute.parents is empty"),
        ({"ingress": {"tlsSecret": "code"}}, "ingress.hosts is empty"),
        ({"backup": {"restore": "newest"}}, "backup.enabled is false"),
        ({"server": {"model": {"source": "pvc"}}}, "model.pvc.claim is empty"),
        ({"server": {"model": {"source": "s3"}}}, "model.s3.uri is empty"),
        ({"server": {"model": {"source": "image"}}}, "model.image.reference is empty"),
        ({"server": {"plan": {"enabled": True}}}, "builds a plan and gpus is 0"),
        ({"server": {"gpus": 1, "plan": {"enabled": True}}}, "model.source is baked"),
        (
            {
                "placement": "sidecar",
                "gateway": {"database": DATABASE},
                "server": {"shadow": 0.1},
            },
            "needs a gateway that knows all pools",
        ),
        (
            {"placement": "sidecar", "gateway": {"database": DATABASE}, "server": {"weight": 0.5}},
            "give whole numbers",
        ),
        (
            {
                "placement": "sidecar",
                "gateway": {"database": DATABASE},
                "backup": {"enabled": True, "restore": "newest"},
            },
            "a database that no gateway uses yet",
        ),
        (
            {"server": {"autoscaling": {"kind": "keda", "minReplicas": 9}}},
            "minReplicas 9 and maxReplicas 4",
        ),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_values_that_do_not_go_together_are_told(values: dict[str, Any], sentence: str) -> None:
    import helm_python  # noqa: PLC0415

    with pytest.raises(helm_python.HelmError, match=sentence):
        render(values)


def test_zeros_of_a_pool_stand_over_those_of_all() -> None:
    made = render({"server": {"gpus": 2, "weight": 3}, "pools": {"b": {"gpus": 0, "weight": 0}}})
    [limits] = [
        one["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
        for one in made
        if one["kind"] == "StatefulSet" and one["metadata"]["name"].endswith("-b")
    ]
    [routes] = [one for one in made if one["metadata"]["name"].endswith("-routes")][:1]

    assert "nvidia.com/gpu" not in limits
    assert '"name":"b-0"' in routes["data"]["routes.json"]
    assert '"weight":0' in routes["data"]["routes.json"]
