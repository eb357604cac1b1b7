"""A stand-in of Kubernetes' API server: it keeps objects as Helm sends them and starts nothing.

What it has of the real one: discovery, create, read, list by labels, apply, merge, replace and
delete, in JSON. What it has not: schemas, defaults, admission, controllers. A Job is done and a Pod
has succeeded as soon as it is created, so that hooks end. Server-side apply takes the whole object
(Helm is the only one who manages it here); a strategic merge joins lists of named things by name,
others are replaced. So it proves what Helm sends, not what a cluster makes of it.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

Thing = dict[str, Any]
# The kinds that there are, by group and version; a plural is the kind in small letters and an s.
KINDS = {
    "v1": ("ConfigMap", "Secret", "Service", "ServiceAccount", "Pod", "PersistentVolumeClaim"),
    "apps/v1": ("Deployment", "StatefulSet"),
    "batch/v1": ("Job", "CronJob"),
    "policy/v1": ("PodDisruptionBudget",),
    "networking.k8s.io/v1": ("NetworkPolicy", "Ingress"),
    "autoscaling/v2": ("HorizontalPodAutoscaler",),
}
PLURALS = {"NetworkPolicy": "networkpolicies", "Ingress": "ingresses"}
DONE = {
    "Job": {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]},
    "Pod": {"phase": "Succeeded"},
}


class Cluster:
    """The objects by group and version, plural and name; and what was asked, in order."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Thing] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.url = ""
        self.version = "v1.33.0"
        self._count = 0

    @property
    def kubeconfig(self) -> str:
        """What a client is told of it."""
        cluster = {"name": "stand-in", "cluster": {"server": self.url}}
        context = {"name": "stand-in", "context": {"cluster": "stand-in", "user": "nobody"}}
        whole = {
            **{"apiVersion": "v1", "kind": "Config", "current-context": "stand-in"},
            **{"clusters": [cluster], "contexts": [context]},
            "users": [{"name": "nobody", "user": {}}],
        }
        return json.dumps(whole)

    def of(self, kind: str) -> dict[str, Thing]:
        """The objects of a kind by name."""
        return {key[2]: one for key, one in self.objects.items() if one["kind"] == kind}

    def keep(self, key: tuple[str, str, str], thing: Thing) -> Thing:
        """Put an object in its place, newer than any before."""
        self._count += 1
        about = thing.setdefault("metadata", {})
        about.update(namespace="prod", uid=f"uid-{'-'.join(key[1:])}")
        about["resourceVersion"] = str(self._count)
        if thing["kind"] in DONE:
            thing["status"] = DONE[thing["kind"]]
        self.objects[key] = thing
        return thing


def plural_of(kind: str) -> str:
    return PLURALS.get(kind, f"{kind.lower()}s")


def merged(old: Any, new: Any) -> Any:
    """A strategic merge: null takes away, named things of a list are joined by name."""
    if isinstance(old, dict) and isinstance(new, dict):
        whole = {**old}
        for key, value in new.items():
            if value is None:
                whole.pop(key, None)
            elif not key.startswith("$"):
                whole[key] = merged(whole.get(key), value)
        return whole
    if isinstance(old, list) and isinstance(new, list) and all("name" in one for one in new):
        parts = {one["name"]: one for one in old}
        for one in new:
            parts[one["name"]] = merged(parts.get(one["name"]), one)
        return [one for one in parts.values() if one.get("$patch") != "delete"]
    return new


class Handler(BaseHTTPRequestHandler):
    """One request; `cluster` is set on the class that serves."""

    cluster: Cluster
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """The cluster's own list tells what was asked."""

    def do_GET(self) -> None:
        """Discovery, an object, a list, or a watch, which sees nothing happen."""
        url = urlsplit(self.path)
        if url.path.startswith("/openapi"):
            self._answer({"paths": {}} if "v3" in url.path else b"")
        elif url.path == "/version":
            _, minor, _ = self.cluster.version.split(".")
            told = {"major": "1", "minor": minor, "gitVersion": self.cluster.version}
            self._answer(told)
        elif (found := discovery(url.path)) is not None:
            self._answer(found)
        elif (key := self._key()) and key[2]:
            self._object(key)
        elif "watch" in parse_qs(url.query):
            self._answer(b"")
        else:
            self._answer(self._list(url.path, parse_qs(url.query)))

    def do_POST(self) -> None:
        """Create; 409 when it is there."""
        thing = self._body()
        api, plural, _ = self._key()
        key = (api, plural, thing["metadata"]["name"])
        self._note("create", key)
        if key in self.cluster.objects:
            self._refuse(409, "AlreadyExists", key)
        else:
            self._answer(self.cluster.keep(key, thing), 201)

    def do_PUT(self) -> None:
        """Replace."""
        self._note("update", key := self._key())
        self._answer(self.cluster.keep(key, self._body()))

    def do_PATCH(self) -> None:
        """Apply or merge."""
        key, kind = self._key(), self.headers["Content-Type"]
        old, new = self.cluster.objects.get(key), self._body()
        self._note("patch", key)
        if "apply" in kind:
            self._answer(self.cluster.keep(key, new))
        elif old is None:
            self._refuse(404, "NotFound", key)
        else:
            self._answer(self.cluster.keep(key, merged(old, new)))

    def do_DELETE(self) -> None:
        """Take away, at once."""
        self._body()
        self._note("delete", key := self._key())
        if self.cluster.objects.pop(key, None) is None:
            self._refuse(404, "NotFound", key)
        else:
            self._answer({"kind": "Status", "apiVersion": "v1", "status": "Success"})

    def _key(self) -> tuple[str, str, str]:
        """Group and version, plural, name ("" for all) of /apis/GROUP/VERSION/namespaces/NS/..."""
        words = urlsplit(self.path).path.strip("/").split("/")
        api = "v1" if words[0] == "api" else "/".join(words[1:3])
        rest = words[words.index("namespaces") + 2 :] if "namespaces" in words else words[3:]
        return (api, *[*rest, "", ""][:2])  # type: ignore[return-value]

    def _object(self, key: tuple[str, str, str]) -> None:
        if key in self.cluster.objects:
            self._answer(self.cluster.objects[key])
        else:
            self._refuse(404, "NotFound", key)

    def _list(self, path: str, query: dict[str, list[str]]) -> Thing:
        api, plural, _ = self._key()
        wanted = dict(
            one.split("=") for one in query.get("labelSelector", [""])[0].split(",") if "=" in one
        )
        name = query.get("fieldSelector", [""])[0].removeprefix("metadata.name=")
        items = [
            one
            for key, one in self.cluster.objects.items()
            if key[:2] == (api, plural)
            and wanted.items() <= one["metadata"].get("labels", {}).items()
            and name in ("", key[2])
        ]
        [kind] = [kind for kind in KINDS.get(api, ()) if plural_of(kind) == plural] or [path]
        about = {"resourceVersion": "1"}
        return {"apiVersion": api, "kind": f"{kind}List", "metadata": about, "items": items}

    def _note(self, verb: str, key: tuple[str, str, str]) -> None:
        self.cluster.asked.append((verb, key[1], key[2]))

    def _body(self) -> Thing:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        thing: Thing = yaml.load(text, yaml.CSafeLoader) or {}
        return thing

    def _refuse(self, code: int, reason: str, key: tuple[str, str, str]) -> None:
        message = f"{key[1]} {key[2]!r}: {reason}"
        about = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message}
        self._answer({**about, "reason": reason, "code": code}, code)

    def _answer(self, content: Thing | bytes, code: int = 200) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        with suppress(ConnectionError):  # who watches leaves in the middle
            self.end_headers()
            self.wfile.write(data)


def discovery(path: str) -> Thing | None:
    """What kinds there are; None for a path that asks for something else."""
    words = path.strip("/").split("/")
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        named = [api.split("/") for api in KINDS if "/" in api]
        versions = [
            {"name": group, "versions": [{"groupVersion": f"{group}/{one}", "version": one}]}
            for group, one in named
        ]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": versions}
    api = "v1" if words == ["api", "v1"] else "/".join(words[1:])
    if api not in KINDS or words[0] not in ("api", "apis"):
        return None
    verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
    resources = [
        {"name": plural_of(kind), "kind": kind, "namespaced": True, "verbs": verbs}
        for kind in KINDS[api]
    ]
    return {"kind": "APIResourceList", "groupVersion": api, "resources": resources}


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """One for a while, on a port that it chose."""
    cluster = Cluster()
    handler = type("Here", (Handler,), {"cluster": cluster})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        cluster.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield cluster
        finally:
            server.shutdown()
            thread.join()
