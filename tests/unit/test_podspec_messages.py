"""sandbox_config and container_config against what a kubelet 1.36 made of the same Pods (recordings in data/)."""

import base64
import copy
import json
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict

from labkit.cri import lenient
from labkit.cri.v1 import api_pb2 as pb
from labkit.podspec import DefaultedPod, ManifestError, with_defaults
from labkit.podspec.messages import CreateContainerConfigError, MachineInfo, container_config, qos_class, sandbox_config
from labkit.podspec.messages.configs import container_hash
from labkit.podspec.messages.container_env import expand
from labkit.podspec.messages.hosts import HostnameError, hosts_file
from labkit.podspec.signals import of_cri

DATA = Path(__file__).with_name("data")
SHOP = json.loads((DATA / "cri_shop.json").read_text())
PODS = json.loads((DATA / "cri_pods.json").read_text())
CONTAINERS = ("app", "side", "prepare")
NODE = MachineInfo(memory_bytes=24684084 * 1024, cpus=2, hugepage_sizes=("2MB", "1GB"), cgroup_version=1, swap_controller=True)
KUBERNETES = {
    "metadata": {"name": "kubernetes", "namespace": "default"},
    "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443, "protocol": "TCP"}]},
}
IMAGE = SHOP["app"]["image"]["image"]

# What no second kubelet would repeat either: when it first saw the Pod, and the random name of a termination log.
SEEN = "kubernetes.io/config.seen"
TERMINATION_LOG = "/dev/termination-log"


def plain(message):
    return MessageToDict(message, preserving_proto_field_name=True)


def recorded(name):
    """The kubelet's message of a container. It was recorded when the value of a variable was a string in api.proto."""
    config = copy.deepcopy(SHOP[name])
    variables = [pb.KeyValue(key=each["key"], value=each.get("value", "").encode()) for each in config.pop("envs", ())]
    return ParseDict(config, pb.ContainerConfig(envs=variables))


def comparable(config):
    """Environment without its order (the kubelet's comes from a Go map), and without the random name."""
    config = plain(config)
    config["envs"] = sorted((variable["key"], variable.get("value", "")) for variable in config.get("envs", ()))
    for mount in config["mounts"]:
        if mount["container_path"] == TERMINATION_LOG:
            directory, _, name = mount["host_path"].rpartition("/")
            assert len(name) == 8 and int(name, 16) >= 0
            mount["host_path"] = directory
    return config


def manifest(**spec):
    container = {"name": "app", "image": "registry.lab/busybox:1", "command": ["sleep", "1"], **spec.pop("container", {})}
    return {"metadata": {"name": "web", "uid": "u-1", **spec.pop("metadata", {})}, "spec": {"containers": [container], **spec}}


def test_the_sandbox_config_is_the_kubelets_in_every_field_but_the_time():
    ours = plain(sandbox_config(SHOP["pod"], dns={"servers": ["192.0.2.53"]}, machine=NODE))
    theirs = plain(ParseDict(SHOP["sandbox"], pb.PodSandboxConfig()))
    assert ours["annotations"].pop(SEEN).endswith("Z") and theirs["annotations"].pop(SEEN)
    assert ours == theirs


@pytest.mark.parametrize("name", CONTAINERS)
def test_each_container_config_is_the_kubelets_in_every_field_but_the_random_name(name):
    ours = container_config(SHOP["pod"], name, image_ref=IMAGE, services=[KUBERNETES], machine=NODE)
    assert comparable(ours) == comparable(recorded(name))


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_v1pod_gives_the_same_messages_as_its_dict(name):
    from kubernetes.client import ApiClient

    pod = ApiClient()._ApiClient__deserialize(SHOP["pod"], "V1Pod")
    assert pod.spec.containers[0].name == "app"
    assert comparable(container_config(pod, name, machine=NODE)) == comparable(container_config(SHOP["pod"], name, machine=NODE))
    assert sandbox_config(pod, seen="x", machine=NODE) == sandbox_config(SHOP["pod"], seen="x", machine=NODE)


def test_defaults_are_those_of_the_api_server():
    applied = json.loads(SHOP["pod"]["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"])
    stored = copy.deepcopy(SHOP["pod"]["spec"])
    for name in ("nodeName", "tolerations", "priority", "preemptionPolicy"):  # set by the scheduler and by admission
        del stored[name]
    completed = with_defaults(applied)
    assert completed["spec"].pop("serviceAccountName") == "default"  # that cluster ran without this admission
    assert completed["spec"] == stored
    assert completed["metadata"].pop("uid") != with_defaults(applied)["metadata"].pop("uid")
    assert completed["metadata"] == applied["metadata"] and "uid" not in applied["metadata"]


def test_a_manifest_without_uid_gives_one_uid_to_all_its_messages():
    pod = manifest()
    del pod["metadata"]["uid"]
    uids = {container_config(pod, "app").labels["io.kubernetes.pod.uid"], sandbox_config(pod).metadata.uid}
    assert len(uids) == 1 and len(uids.pop()) == 36
    assert sandbox_config({**pod, "metadata": {"name": "other"}}).metadata.uid != sandbox_config(pod).metadata.uid


REFUSED = {  # builders say, in the kubelet's words, why these containers were never made
    "absent-claim": 'cannot find volume "d" to mount into container "app"',
    "unbound-claim": 'cannot find volume "d" to mount into container "app"',
    "missing-configmap-env": 'configmap "absent" not found',
}


@pytest.mark.parametrize("name", sorted(PODS))
def test_every_manifest_that_a_real_kubelet_took_is_taken(name):
    pod, objects = with_defaults(PODS[name]["manifest"]), PODS[name].get("objects", [])
    assert qos_class(pod) == PODS[name]["qosClass"]
    configmaps = {o["metadata"]["name"]: o["data"] for o in objects if o["kind"] == "ConfigMap"}
    secrets = {
        o["metadata"]["name"]: {key: base64.b64decode(value) for key, value in o["data"].items()}
        for o in objects
        if o["kind"] == "Secret"
    }
    assert sandbox_config(pod).metadata.uid == pod["metadata"]["uid"]
    for container in pod["spec"]["containers"] + pod["spec"].get("initContainers", []):
        try:
            config = container_config(pod, container["name"], configmaps=configmaps, secrets=secrets)
        except CreateContainerConfigError as error:
            assert str(error) == REFUSED[name]
        else:
            assert config.metadata.name == container["name"] and name not in REFUSED


def test_the_kubelets_words_for_a_missing_configmap_are_in_the_recording():
    assert f"Error: {REFUSED['missing-configmap-env']}" in PODS["missing-configmap-env"]["messages"]


def test_the_hash_changes_with_image_and_name_only():
    container = {"name": "app", "image": "localhost:5000/labkit/bb:1", "command": ["x"]}
    assert container_hash(container) == "8be7be0f" == container_hash({**container, "command": ["y"]})
    assert container_hash({**container, "image": "other"}) != "8be7be0f"


@pytest.mark.parametrize(
    ("spec", "namespaces"),
    [
        ({}, (pb.POD, pb.CONTAINER, pb.POD)),
        ({"shareProcessNamespace": True}, (pb.POD, pb.POD, pb.POD)),
        ({"hostNetwork": True}, (pb.NODE, pb.CONTAINER, pb.POD)),
        ({"hostPID": True}, (pb.POD, pb.NODE, pb.POD)),
        ({"hostIPC": True}, (pb.POD, pb.CONTAINER, pb.NODE)),
    ],
)
def test_namespace_options_of_sandbox_and_container(spec, namespaces):
    sandbox = sandbox_config(manifest(**spec)).linux.security_context.namespace_options
    container = container_config(manifest(**spec), "app").linux.security_context.namespace_options
    assert (sandbox.network, sandbox.pid, sandbox.ipc) == namespaces
    assert container == sandbox and sandbox.userns_options.mode == pb.NODE


def test_a_pod_on_the_host_network_has_no_hostname_of_its_own():
    assert sandbox_config(manifest(hostNetwork=True)).hostname == ""
    assert sandbox_config(manifest(hostname="shop")).hostname == "shop"


def test_security_context_of_a_container_wins_over_its_pods():
    pod = manifest(
        securityContext={
            "runAsUser": 1,
            "runAsGroup": 2,
            "fsGroup": 3,
            "supplementalGroups": [4],
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        container={
            "securityContext": {
                "runAsUser": 7,
                "privileged": False,
                "readOnlyRootFilesystem": True,
                "allowPrivilegeEscalation": False,
                "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
                "seccompProfile": {"type": "Localhost", "localhostProfile": "audit.json"},
            }
        },
    )
    defaulted = DefaultedPod(with_defaults(pod))
    defaulted["spec"]["containers"][0]["securityContext"]["procMount"] = "Unmasked"  # needs a user namespace, which no hand has
    context = container_config(defaulted, "app").linux.security_context
    assert (context.run_as_user.value, context.run_as_group.value, list(context.supplemental_groups)) == (7, 2, [3, 4])
    assert context.readonly_rootfs and context.no_new_privs and not context.masked_paths and not context.readonly_paths
    assert (list(context.capabilities.add_capabilities), list(context.capabilities.drop_capabilities)) == (["NET_ADMIN"], ["ALL"])
    assert context.seccomp.localhost_ref == "/var/lib/kubelet/seccomp/audit.json"
    assert sandbox_config(pod).linux.security_context.seccomp.profile_type == pb.SecurityProfile.RuntimeDefault
    del pod["spec"]["containers"][0]["securityContext"]
    assert container_config(pod, "app").linux.security_context.seccomp.profile_type == pb.SecurityProfile.RuntimeDefault


def test_run_as_non_root_is_checked_against_the_images_user():
    pod = manifest(container={"securityContext": {"runAsNonRoot": True}})
    for user, words in ((0, "image will run as root"), ("www", "non-numeric user (www)")):
        with pytest.raises(CreateContainerConfigError) as caught:
            container_config(pod, "app", image_user=user)
        assert words in str(caught.value) and '(pod: "web_default(u-1)", container: app)' in str(caught.value)
    assert container_config(pod, "app", image_user=1000).linux.security_context.run_as_user.value == 1000


@pytest.mark.parametrize(
    ("resources", "qos", "score", "parent"),
    [
        ({}, "BestEffort", 1000, "/kubepods/besteffort/podu-1"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed", -997, "/kubepods/podu-1"),
        ({"requests": {"memory": "1Gi"}}, "Burstable", 750, "/kubepods/burstable/podu-1"),
        ({"requests": {"memory": "8Gi"}}, "Burstable", 3, "/kubepods/burstable/podu-1"),
        ({"requests": {"cpu": "1m"}}, "Burstable", 999, "/kubepods/burstable/podu-1"),
    ],
)
def test_qos_decides_cgroup_and_oom_score(resources, qos, score, parent):
    pod = manifest(container={"resources": resources})
    assert qos_class(pod) == qos
    assert container_config(pod, "app", memory_capacity=4 * 1024**3).linux.resources.oom_score_adj == score
    assert sandbox_config(pod).linux.cgroup_parent == parent


def test_the_cgroup_parent_under_another_root_and_as_systemd_slices():
    assert sandbox_config(manifest(), cgroup_root="/labkit").linux.cgroup_parent == "/labkit/kubepods/besteffort/podu-1"
    slices = sandbox_config(manifest(), cgroup_driver="systemd").linux.cgroup_parent
    assert slices == "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podu_1.slice"


def test_cgroup_v2_limits_swap_and_kills_groups_by_unified_keys():
    pod = manifest(container={"resources": {"limits": {"memory": "1Mi", "hugepages-2Mi": "4Mi"}}})
    machine = MachineInfo(2**30, 1, ("2MB",), cgroup_version=2, swap_controller=True)
    resources = container_config(pod, "app", machine=machine).linux.resources
    assert dict(resources.unified) == {"memory.oom.group": "1", "memory.swap.max": "0"}
    assert resources.memory_swap_limit_in_bytes == 0 and resources.hugepage_limits[0].limit == 4 * 2**20


def test_sidecars_count_for_the_sandbox_and_big_init_containers_set_its_floor():
    def container(name, cpu, **more):
        return {"name": name, "image": "i", "resources": {"requests": {"cpu": cpu}}, **more}

    pod = {
        "metadata": {"name": "web"},
        "spec": {
            "containers": [container("app", "100m")],
            "initContainers": [container("log", "200m", restartPolicy="Always"), container("big", "1")],
        },
    }
    assert sandbox_config(pod).linux.resources.cpu_shares == 1200 * 1024 // 1000


@pytest.mark.parametrize(
    ("text", "expanded"),
    [("$(A)", "1"), ("$$(A)", "$(A)"), ("$(B)", "$(B)"), ("x$(A)y$(A)", "x1y1"), ("$(A", "$(A"), ("$A", "$A"), ("$$$(A)", "$1")],
)
def test_expansion_of_references(text, expanded):
    assert expand(text, {"A": "1"}) == expanded


def test_env_from_fields_resources_configmaps_and_earlier_variables():
    pod = manifest(
        metadata={"labels": {"app": "web"}, "namespace": "shop"},
        nodeName="sim-worker",
        container={
            "command": ["echo", "$(WHO) $(NODE) $(absent)"],
            "resources": {"limits": {"memory": "64Mi"}},
            "envFrom": [{"prefix": "S_", "configMapRef": {"name": "settings"}}],
            "env": [
                {"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "MIB", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                {"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "k"}}},
                {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k", "optional": True}}},
                {"name": "URL", "value": "http://$(IP)/$(S_path)"},
            ],
        },
    )
    config = container_config(
        pod, "app", pod_ip="10.88.0.9", machine=NODE, configmaps={"settings": {"path": "x"}}, secrets={"keys": {"k": b"s3"}}
    )
    assert lenient.variables_of(config) == {
        "S_path": "x",
        "WHO": "web",
        "NODE": "sim-worker",
        "IP": "10.88.0.9",
        "MIB": "64",
        "CPUS": "2",
        "KEY": "s3",
        "URL": "http://10.88.0.9/x",
    }
    assert list(config.command) == ["echo", "web sim-worker $(absent)"]
    with pytest.raises(CreateContainerConfigError, match=r"status\.podIP, which is not known yet: pass pod_ip="):
        container_config(pod, "app", configmaps={"settings": {}}, secrets={"keys": {"k": "s"}})
    with pytest.raises(CreateContainerConfigError, match="couldn't find key k in Secret shop/keys"):
        container_config(pod, "app", pod_ip="x", configmaps={"settings": {}}, secrets={"keys": {}})


def test_services_of_other_namespaces_are_not_told_nor_any_without_links():
    shop = {"metadata": {"name": "my-db", "namespace": "shop"}, "spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 5432}]}}
    names = {v.key for v in container_config(manifest(), "app", services=[KUBERNETES, shop]).envs}
    assert "KUBERNETES_SERVICE_HOST" in names and "MY_DB_SERVICE_HOST" not in names
    pod = manifest(metadata={"namespace": "shop"})
    assert "MY_DB_PORT_5432_TCP_ADDR" in {v.key for v in container_config(pod, "app", services=[KUBERNETES, shop]).envs}
    pod["spec"]["enableServiceLinks"] = False
    assert {v.key[:10] for v in container_config(pod, "app", services=[KUBERNETES, shop]).envs} == {"KUBERNETES"}


def test_mounts_of_each_kind_of_volume():
    pod = manifest(
        volumes=[
            {"name": "host", "hostPath": {"path": "/srv"}},
            {"name": "cfg", "configMap": {"name": "c"}},
            {"name": "key", "secret": {"secretName": "s"}},
            {"name": "tmp"},
            {"name": "claim", "persistentVolumeClaim": {"claimName": "p"}},
        ],
        container={
            "volumeMounts": [
                {"name": "host", "mountPath": "/srv", "subPath": "a/b", "readOnly": True, "mountPropagation": "HostToContainer"},
                {"name": "cfg", "mountPath": "cfg"},
                {"name": "key", "mountPath": "/key"},
                {"name": "tmp", "mountPath": "/etc/hosts"},
                {"name": "claim", "mountPath": "/data"},
            ]
        },
    )
    config = container_config(pod, "app", pod_ip="x", kubelet_root="/k", volume_paths={"claim": "/c"})
    mounts = {mount.container_path: mount for mount in config.mounts}
    assert {path: mount.host_path for path, mount in mounts.items() if path != TERMINATION_LOG} == {
        "/srv": "/srv/a/b",
        "/cfg": "/k/pods/u-1/volumes/kubernetes.io~configmap/cfg",
        "/key": "/k/pods/u-1/volumes/kubernetes.io~secret/key",
        "/etc/hosts": "/k/pods/u-1/volumes/kubernetes.io~empty-dir/tmp",
        "/data": "/c",
    }
    assert mounts["/srv"].readonly and mounts["/cfg"].readonly and mounts["/key"].readonly and not mounts["/data"].readonly
    assert mounts["/srv"].propagation == pb.PROPAGATION_HOST_TO_CONTAINER


def test_dns_policy_none_takes_only_the_manifests_servers():
    own = {"nameservers": ["192.0.2.1"], "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}]}
    node = {"servers": ["192.0.2.53"], "options": ["ndots:5"]}
    alone = sandbox_config(manifest(dnsPolicy="None", dnsConfig=own), dns=node).dns_config
    added = sandbox_config(manifest(dnsConfig=own), dns=node).dns_config
    assert (list(alone.servers), list(alone.options)) == (["192.0.2.1"], ["ndots:2", "rotate"])
    assert (list(added.servers), list(added.options)) == (["192.0.2.53", "192.0.2.1"], ["ndots:2", "rotate"])
    assert not sandbox_config(manifest()).HasField("dns_config")


def test_an_ephemeral_container_joins_its_targets_pid_namespace():
    pod = manifest(ephemeralContainers=[{"name": "debug", "image": "i", "targetContainerName": "app"}])
    options = container_config(pod, "debug", attempt=2, target_id="abc").linux.security_context.namespace_options
    assert (options.pid, options.target_id) == (pb.TARGET, "abc")
    assert container_config(pod, "debug", attempt=2).log_path == "debug/2.log"


@pytest.mark.parametrize(
    ("signal", "known_as"),
    [(None, "RUNTIME_DEFAULT"), ("SIGQUIT", "SIGQUIT"), ("SIGRTMIN+3", "SIGRTMINPLUS3"), ("SIGRTMAX-14", "SIGRTMAXMINUS14")],
)
def test_the_stop_signal_has_another_name_in_cri(signal, known_as):
    lifecycle = {"stopSignal": signal} if signal else {}
    pod = manifest(os={"name": "linux"}, containers=[{"name": "c", "image": "i", "lifecycle": lifecycle}])
    asked = container_config(pod, "c", pod_ip="10.0.0.5").stop_signal
    assert pb.Signal.Name(asked) == known_as
    assert of_cri(known_as) == (signal or "")


def test_a_container_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(ManifestError, match="container db is not valid for pod web: its containers are app"):
        container_config(manifest(), "db")


def test_a_subdomain_gives_the_pod_a_full_name_in_its_hosts_file():
    pod = with_defaults(manifest(hostname="a", subdomain="db"))
    assert hosts_file(pod, ["10.88.0.5"], str).endswith("\n10.88.0.5\ta.db.default.svc.cluster.local\ta\n")
    assert hosts_file(pod, ["10.88.0.5"], str, "lab.example").endswith("\ta.db.default.svc.lab.example\ta\n")
    assert sandbox_config(pod).hostname == "a"
    overridden = with_defaults(manifest(hostnameOverride="x.example", subdomain="db"))
    assert hosts_file(overridden, ["10.88.0.5"], str).endswith("\n10.88.0.5\tx.example\n")


def test_set_hostname_as_fqdn_makes_the_full_name_the_hostname():
    assert sandbox_config(manifest(subdomain="db", setHostnameAsFQDN=True)).hostname == "web.db.default.svc.cluster.local"
    assert sandbox_config(manifest(setHostnameAsFQDN=True)).hostname == "web"
    assert sandbox_config(manifest(subdomain="d" * 34, setHostnameAsFQDN=True)).hostname.startswith("web.d")
    with pytest.raises(HostnameError) as refused:
        sandbox_config(manifest(subdomain="d" * 35, setHostnameAsFQDN=True))
    full = f"web.{'d' * 35}.default.svc.cluster.local"
    assert str(refused.value) == (
        f"failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long (64 characters is the max, "
        "65 characters requested)"
    )


def test_the_hosts_file_is_that_of_a_kubelet():
    aliases = [{"ip": "10.0.0.9", "hostnames": ["db", "db.lab"]}]
    alone = with_defaults(manifest(hostname="shop", hostAliases=aliases))
    text = hosts_file(alone, ["10.88.0.5", "fd00::5"], of_node=str)
    assert text.startswith("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n")
    assert text.endswith("10.88.0.5\tshop\nfd00::5\tshop\n\n# Entries added by HostAliases.\n10.0.0.9\tdb\tdb.lab\n")
    on_host = hosts_file(with_defaults(manifest(hostNetwork=True)), ["10.88.0.5"], of_node=lambda: "127.0.0.1 node\n")
    assert on_host == "# Kubernetes-managed hosts file (host network).\n127.0.0.1 node\n"
