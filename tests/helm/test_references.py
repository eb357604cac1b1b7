"""What objects say of each other holds: selectors, ports, claims, accounts, targets, routes."""

from collections.abc import Iterator
from typing import Any

from tests.helm.charts import (
    Manifest,
    containers,
    is_part,
    named,
    pods,
    rendered,
    values_of,
    workloads,
)

Manifests = tuple[Manifest, ...]


def labels_of(template: Manifest) -> dict[str, str]:
    labels: dict[str, str] = template["metadata"]["labels"]
    return labels


def selected(manifests: Manifests, selector: dict[str, str]) -> list[Manifest]:
    """Templates of the pods that a selector means."""
    return [one for _, one in pods(manifests) if is_part(selector, labels_of(one))]


def port_names(template: Manifest) -> set[str]:
    return {port["name"] for one in containers(template) for port in one.get("ports", ())}


def texts(value: Any) -> Iterator[str]:
    """Every text inside values."""
    if isinstance(value, dict):
        value = [*value.values()]
    if isinstance(value, list):
        for one in value:
            yield from texts(one)
    elif isinstance(value, str):
        yield value


def given_names(scenario_values: dict[str, Any]) -> set[str]:
    return {*texts(scenario_values)}


def test_workloads_select_their_own_pods_alone(manifests: Manifests) -> None:
    assert workloads(manifests)
    for one in workloads(manifests):
        selector = one["spec"]["selector"]["matchLabels"]
        assert selected(manifests, selector) == [one["spec"]["template"]]


def test_services_find_pods_that_have_their_ports(manifests: Manifests) -> None:
    for service in named(manifests, "Service").values():
        found = selected(manifests, service["spec"]["selector"])
        assert found, service["metadata"]["name"]
        for template in found:
            targets = {port["targetPort"] for port in service["spec"]["ports"]}
            assert targets <= port_names(template)


def test_budgets_mean_the_pods_of_one_workload(manifests: Manifests) -> None:
    budgets = named(manifests, "PodDisruptionBudget")

    assert budgets.keys() == {one["metadata"]["name"] for one in workloads(manifests)}
    for budget in budgets.values():
        assert len(selected(manifests, budget["spec"]["selector"]["matchLabels"])) == 1


def test_probes_ask_ports_that_there_are(manifests: Manifests) -> None:
    for _, template in pods(manifests):
        for one in containers(template):
            own = {port["name"] for port in one.get("ports", ())}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                asked = one.get(probe, {}).get("httpGet")
                assert asked is None or asked["port"] in own


def test_what_serves_has_all_three_probes(manifests: Manifests) -> None:
    serving = [
        one
        for workload in workloads(manifests)
        for one in containers(workload["spec"]["template"])
        if one["name"] in ("server", "gateway")
    ]

    assert serving
    assert all({"startupProbe", "livenessProbe", "readinessProbe"} <= one.keys() for one in serving)


def test_mounts_are_of_volumes_that_there_are(manifests: Manifests) -> None:
    for owner, template in pods(manifests):
        volumes = {one["name"] for one in template["spec"].get("volumes", ())}
        claims = owner["spec"].get("volumeClaimTemplates", ())
        volumes |= {one["metadata"]["name"] for one in claims}
        mounted = {
            mount["name"] for one in containers(template) for mount in one.get("volumeMounts", ())
        }
        assert mounted == volumes


def test_accounts_are_made_here(manifests: Manifests) -> None:
    accounts = named(manifests, "ServiceAccount").keys()

    assert {one["spec"]["serviceAccountName"] for _, one in pods(manifests)} <= accounts


def test_secrets_maps_and_claims_are_made_here_or_named_by_values(
    manifests: Manifests, request: Any
) -> None:
    scenario = request.node.callspec.params["manifests"][0]
    given = given_names(values_of(scenario))
    claims = {
        f"{claim['metadata']['name']}-{one['metadata']['name']}-0"
        for one in workloads(manifests)
        for claim in one["spec"].get("volumeClaimTemplates", ())
    }
    there = {
        "Secret": named(manifests, "Secret").keys() | given,
        "ConfigMap": named(manifests, "ConfigMap").keys(),
        "Claim": named(manifests, "PersistentVolumeClaim").keys() | claims | given,
    }
    for _, template in pods(manifests):
        for kind, name in referred(template):
            assert name in there[kind], (kind, name)


def referred(template: Manifest) -> Iterator[tuple[str, str]]:
    """What a pod takes from elsewhere, by kind and name."""
    for volume in template["spec"].get("volumes", ()):
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"]
        elif "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        elif "persistentVolumeClaim" in volume:
            yield "Claim", volume["persistentVolumeClaim"]["claimName"]
    for one in containers(template):
        for variable in one.get("env", ()):
            if "valueFrom" in variable:
                yield "Secret", variable["valueFrom"]["secretKeyRef"]["name"]
        for source in one.get("envFrom", ()):
            yield "Secret", source["secretRef"]["name"]


def test_scalers_scale_what_there_is_and_nothing_else_says_how_many(manifests: Manifests) -> None:
    targets = {(one["kind"], one["metadata"]["name"]): one for one in workloads(manifests)}
    scalers = [
        *named(manifests, "ScaledObject").values(),
        *named(manifests, "HorizontalPodAutoscaler").values(),
    ]
    scaled = [one["spec"]["scaleTargetRef"] for one in scalers]

    assert {(one["kind"], one["name"]) for one in scaled} == {
        key for key, one in targets.items() if "replicas" not in one["spec"]
    }


def test_triton_is_reachable_from_gateways_and_prometheus_alone(manifests: Manifests) -> None:
    policies = named(manifests, "NetworkPolicy")
    if not policies:
        return  # switched off for a laptop, whose scenario is the only one
    for template in selected(manifests, {"app.kubernetes.io/component": "server"}):
        mine = [
            one
            for one in policies.values()
            if is_part(one["spec"]["podSelector"]["matchLabels"], labels_of(template))
        ]
        assert [one["spec"]["policyTypes"] for one in mine] == [["Ingress", "Egress"]]
        assert open_doors(manifests, mine[0]) <= {("grpc", "gateway"), ("metrics", "gateway")} | {
            ("metrics", "prometheus"),
            ("http", "everybody"),  # of the sidecar, the gateway itself
        }


def test_every_pod_has_one_network_policy(manifests: Manifests) -> None:
    policies = named(manifests, "NetworkPolicy").values()
    for _, template in pods(manifests) if policies else ():
        met = [
            one
            for one in policies
            if is_part(one["spec"]["podSelector"]["matchLabels"], labels_of(template))
        ]
        assert len(met) == 1


def open_doors(manifests: Manifests, policy: Manifest) -> set[tuple[str, str]]:
    """By a policy's ports who may come in."""
    doors: set[tuple[str, str]] = set()
    for rule in policy["spec"]["ingress"]:
        for port in rule["ports"]:
            for peer in rule.get("from", [None]):
                doors.add((port["port"], who(manifests, peer)))
    return doors


def who(manifests: Manifests, peer: Manifest | None) -> str:
    if peer is None:
        return "everybody"
    if "podSelector" not in peer:
        return "prometheus"
    found = selected(manifests, peer["podSelector"]["matchLabels"])
    return "/".join(sorted({labels_of(one)["app.kubernetes.io/component"] for one in found}))


def test_only_the_laptop_has_no_network_policy(manifests: Manifests, request: Any) -> None:
    scenario = request.node.callspec.params["manifests"][0]

    assert (not named(manifests, "NetworkPolicy")) == (scenario == "cpu-laptop")


def test_ingresses_and_routes_lead_to_services_ports(manifests: Manifests) -> None:
    services = named(manifests, "Service")
    for ingress in named(manifests, "Ingress").values():
        for rule in ingress["spec"]["rules"]:
            backend = rule["http"]["paths"][0]["backend"]["service"]
            ports = services[backend["name"]]["spec"]["ports"]
            assert backend["port"]["name"] in {port["name"] for port in ports}
    for route in named(manifests, "HTTPRoute").values():
        for backend in route["spec"]["rules"][0]["backendRefs"]:
            ports = services[backend["name"]]["spec"]["ports"]
            assert backend["port"] in {port["port"] for port in ports}


def test_monitors_find_pods_with_their_ports(manifests: Manifests) -> None:
    for monitor in named(manifests, "PodMonitor").values():
        found = selected(manifests, monitor["spec"]["selector"]["matchLabels"])
        asked = {one["port"] for one in monitor["spec"]["podMetricsEndpoints"]}
        assert found
        assert all(asked <= port_names(one) for one in found)
    for monitor in named(manifests, "ServiceMonitor").values():
        [service] = [
            one
            for one in named(manifests, "Service").values()
            if is_part(monitor["spec"]["selector"]["matchLabels"], one["metadata"]["labels"])
        ]
        ports = {port["name"] for port in service["spec"]["ports"]}
        assert {one["port"] for one in monitor["spec"]["endpoints"]} <= ports


def test_gateways_know_a_name_for_every_pod_of_every_pool() -> None:
    manifests = rendered("canary")
    [gateway] = [
        one for one in workloads(manifests) if one["metadata"]["name"].endswith("-gateway")
    ]
    args = gateway["spec"]["template"]["spec"]["containers"][0]["args"]
    hosts = {one.split("=")[2].split(".")[0] for one in args if one.startswith("--backend=")}

    assert hosts == {
        f"{one['metadata']['name']}-{number}"
        for one in workloads(manifests)
        if one is not gateway
        for number in range(one["spec"]["replicas"])
    }


def test_every_pod_is_locked_down(manifests: Manifests) -> None:
    for _, template in pods(manifests):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        for one in containers(template):
            own = one["securityContext"]
            assert own["readOnlyRootFilesystem"]
            assert not own["allowPrivilegeEscalation"]
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert one["resources"]["requests"]
            assert one["resources"]["limits"]["memory"]


def test_pods_may_take_longer_to_end_than_the_longest_stream(manifests: Manifests) -> None:
    for workload in workloads(manifests):
        template = workload["spec"]["template"]
        words = [word for one in containers(template) for word in one.get("args", ())]
        longest = [
            float(word.split("=")[1])
            for word in words
            if word.startswith(("--max-timeout-s=", "--exit-timeout-secs=", "--drain-delay-s="))
        ]
        assert template["spec"]["terminationGracePeriodSeconds"] > sum(longest)
