"""Pod manifests of every shape that the course and its tests use, for hypothesis; most are right, some are not."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

CPU = st.sampled_from(["100m", "0.5", 0.5, 1, "1", "1500m", "2", "1e0", 0, "0"])
MEMORY = st.sampled_from(["64Mi", "65536Ki", "67108864", 67108864, "1Gi", "128M", "1e8", "0.5Gi"])
IMAGES = st.sampled_from([
    "i", "i:latest", "i:1", "registry.lab/busybox:1", "localhost:5000/i", f"i@sha256:{'a' * 64}", f"i:latest@sha256:{'a' * 64}",
    f"registry.lab:5000/i:1@sha256:{'a' * 64}",
])
WORDS = st.sampled_from(["", "x", "$(A)", "$$(A)", "<&>", "é x", "sleep 3600"])
LABELS = st.dictionaries(st.sampled_from(["app", "tier", "example.com/part"]), st.sampled_from(["", "web", "db-1"]), max_size=2)
VOLUMES: dict[str, Any] = {
    "empty": {}, "memory": {"emptyDir": {"medium": "Memory", "sizeLimit": "0.5Gi"}}, "null": {"emptyDir": None},
    "host": {"hostPath": {"path": "/data"}}, "map": {"configMap": {"name": "c"}},
    "secret": {"secret": {"secretName": "s", "items": [{"key": "k", "path": "p"}]}},
    "fields": {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    "all": {"projected": {"sources": [{"configMap": {"name": "c"}}, {"serviceAccountToken": {"path": "t"}}]}},
    "image": {"image": {"reference": "i:latest"}},
}


def fields(**optional: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A mapping in which each field may be absent, or null as `kubectl` lets it be, in any order."""
    some = st.fixed_dictionaries({}, optional={name: st.one_of(value, st.none()) for name, value in optional.items()})
    return st.tuples(some, st.randoms(use_true_random=False)).map(lambda drawn: _shuffled(*drawn))


def _shuffled(mapping: dict[str, Any], random: Any) -> dict[str, Any]:
    names = list(mapping)
    random.shuffle(names)
    return {name: mapping[name] for name in names}


def both(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {**one, **other}


http = st.tuples(
    st.fixed_dictionaries({"port": st.sampled_from([80, "web", 8080])}),
    fields(path=st.sampled_from(["", "/healthz"]), host=st.sampled_from(["", "localhost"]),
           scheme=st.sampled_from(["HTTP", "HTTPS"]), httpHeaders=st.just([{"value": "v", "name": "N"}])),
).map(lambda drawn: both(*drawn))
command = st.fixed_dictionaries({"command": st.lists(WORDS, min_size=1, max_size=2)})
hook = st.one_of(
    st.fixed_dictionaries({"exec": command}), st.fixed_dictionaries({"httpGet": http}),
    st.fixed_dictionaries({"tcpSocket": st.just({"port": 80})}), st.just({"sleep": {"seconds": 5}}),
)
probe = st.tuples(
    st.one_of(st.fixed_dictionaries({"httpGet": http}), st.fixed_dictionaries({"exec": command}), st.just({"grpc": {"port": 9}})),
    fields(periodSeconds=st.sampled_from([0, 1]), failureThreshold=st.just(2)),
).map(lambda drawn: both(*drawn))
values = st.one_of(
    fields(value=WORDS),
    st.sampled_from(["metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels['app']", "spec.nodeName",
                     "spec.serviceAccountName", "status.podIP", "status.podIPs", "status.hostIP"])
    .map(lambda path: {"valueFrom": {"fieldRef": {"fieldPath": path}}}),
    st.tuples(st.sampled_from(["limits.cpu", "limits.memory", "requests.cpu", "requests.memory", "limits.ephemeral-storage"]),
              st.sampled_from([None, "1"]))
    .map(lambda drawn: {"valueFrom": {"resourceFieldRef": {"resource": drawn[0], "divisor": drawn[1]}}}),
    st.just({"valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}),
    st.just({"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}),
)
variables = st.lists(st.tuples(st.sampled_from("ABC"), values).map(lambda drawn: {"name": drawn[0], **drawn[1]}), max_size=3)
ports = st.lists(
    st.tuples(st.integers(80, 82), fields(hostPort=st.sampled_from([0, 8080]), hostIP=st.sampled_from(["", "127.0.0.1"]),
              protocol=st.sampled_from(["TCP", "UDP"])))
    .map(lambda drawn: {"containerPort": drawn[0], **drawn[1]}), max_size=2,
)
amounts = fields(cpu=CPU, memory=MEMORY)
resources = fields(limits=amounts, requests=amounts)
user = {"runAsUser": st.sampled_from([0, 1000]), "runAsGroup": st.just(3000), "runAsNonRoot": st.booleans(),
        "seccompProfile": st.sampled_from([{"type": "RuntimeDefault"}, {"type": "Localhost", "localhostProfile": "p.json"}]),
        "seLinuxOptions": st.just({"level": "s0"})}
security = fields(
    **user, privileged=st.booleans(), readOnlyRootFilesystem=st.booleans(), procMount=st.just("Default"),
    capabilities=fields(add=st.just(["NET_ADMIN"]), drop=st.sampled_from([[], ["ALL"]])),
)
pod_security = fields(
    **user, fsGroup=st.just(2000), supplementalGroups=st.just([4, 5]), sysctls=st.just([{"name": "net.core.x", "value": "1"}])
)
mounts = st.lists(st.sampled_from(sorted(VOLUMES)), max_size=3, unique=True).map(
    lambda names: [{"name": name, "mountPath": f"/{name}"} for name in names]
)


def container(name: str) -> st.SearchStrategy[dict[str, Any]]:
    more = fields(
        command=st.lists(WORDS, max_size=2), args=st.lists(WORDS, max_size=2), env=variables, ports=ports, resources=resources,
        securityContext=security, volumeMounts=mounts, workingDir=st.sampled_from(["", "/w"]), stdin=st.booleans(),
        tty=st.booleans(), imagePullPolicy=st.sampled_from(["", "Never"]), terminationMessagePath=st.sampled_from(["", "/end"]),
        envFrom=st.just([{"prefix": "P_", "configMapRef": {"name": "c"}}]),
    )
    return st.tuples(st.fixed_dictionaries({"name": st.just(name), "image": IMAGES}), more).map(lambda drawn: both(*drawn))


def with_hooks(name: str) -> st.SearchStrategy[dict[str, Any]]:
    more = fields(lifecycle=fields(preStop=hook, postStart=hook), readinessProbe=probe)
    return st.tuples(container(name), more).map(lambda drawn: both(*drawn))


specs = st.tuples(
    st.fixed_dictionaries({
        "containers": st.one_of(st.tuples(with_hooks("app")), st.tuples(with_hooks("app"), with_hooks("side"))).map(list),
        "volumes": st.just([{"name": name, **source} for name, source in VOLUMES.items()]),
    }),
    fields(
        initContainers=st.one_of(st.tuples(container("init")).map(list), st.tuples(container("init"), with_hooks("proxy"))
                                 .map(lambda drawn: [drawn[0], {**drawn[1], "restartPolicy": "Always"}])),
        hostNetwork=st.booleans(), hostPID=st.booleans(), hostIPC=st.booleans(), shareProcessNamespace=st.just(True),
        dnsPolicy=st.sampled_from(["", "Default", "ClusterFirst"]),
        dnsConfig=st.just({"nameservers": ["10.0.0.1"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}),
        hostname=st.just("host"), subdomain=st.just("sub"), restartPolicy=st.sampled_from(["", "Never"]),
        terminationGracePeriodSeconds=st.sampled_from([0, 1]), securityContext=pod_security, resources=resources,
        enableServiceLinks=st.booleans(), serviceAccountName=st.sampled_from(["", "default"]), nodeName=st.just("sim-worker"),
        serviceAccount=st.just("default"), nodeSelector=LABELS, priorityClassName=st.sampled_from(["", "system-node-critical"]),
        tolerations=st.just([{"operator": "Exists"}]), schedulerName=st.just(""), hostAliases=st.just([]),
    ),
).map(lambda drawn: both(*drawn))
metadata = st.tuples(st.just({"name": "web"}), fields(labels=LABELS, annotations=LABELS)).map(lambda drawn: both(*drawn))
manifests = st.fixed_dictionaries({"metadata": metadata, "spec": specs})
