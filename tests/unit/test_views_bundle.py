"""The bundle beside the messages that asked for it."""

import pytest

from labkit.cri.text import to_dict
from labkit.figures.runtime.bundle import bundle, pairs
from labkit.podspec.messages import container_config, sandbox_config
from tests.unit.test_views_flight_timeline import Paper, clashes

POD = {
    "metadata": {"name": "web", "namespace": "default", "uid": "5dac70b4-0000-4000-8000-000000000001"},
    "spec": {
        "containers": [
            {
                "name": "app",
                "image": "registry.lab/busybox:1",
                "command": ["httpd"],
                "args": ["-f"],
                "env": [{"name": "COLOUR", "value": "green"}],
                "resources": {"limits": {"memory": "64Mi", "cpu": "100m"}},
            }
        ]
    },
}


def spec(sandbox, **changes):
    """What containerd 1.6 wrote for such a Pod, shortened."""
    linux = {
        "cgroupsPath": f"{sandbox['linux']['cgroup_parent']}/{'f2' * 32}",
        "namespaces": [
            {"type": "pid"},
            {"type": "ipc", "path": "/proc/5288/ns/ipc"},
            {"type": "uts", "path": "/proc/5288/ns/uts"},
            {"type": "mount"},
            {"type": "network", "path": "/proc/5288/ns/net"},
            {"type": "cgroup"},
        ],
        "resources": {"cpu": {"shares": 102, "quota": 10000, "period": 100000}, "memory": {"limit": 67108864}},
    }
    return {
        "process": {"args": ["httpd", "-f"], "env": ["PATH=/bin", "HOSTNAME=web", "COLOUR=green"]},
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs"},
            {"destination": "/dev/termination-log", "type": "bind", "source": "/var/lib/kubelet/pods/5dac70b4/containers/app/9"},
            {"destination": "/dev/shm", "type": "bind", "source": "/run/sandboxes/1/shm"},
        ],
        "linux": {**linux, **changes},
    }


def of_pod(pod=POD, changes=None, **options):
    sandbox, container = to_dict(sandbox_config(pod)), to_dict(container_config(pod, "app"))
    return bundle(spec(sandbox, **(changes or {})), sandbox, container, **options)


def test_the_text_says_what_became_of_what():
    assert repr(of_pod()).splitlines() == [
        "Bundle: what CRI asked for, and what the runtime wrote for it into config.json.",
        "Program: command → process.args httpd -f; envs → process.env COLOUR; the runtime adds → process.env PATH and HOSTNAME; "
        "image → root.path rootfs.",
        "Namespaces: network POD → network: join the pause's; network POD → uts: join the pause's; "
        "ipc POD → ipc: join the pause's; pid CONTAINER → pid: make a new one; the runtime adds → mount: make a new one.",
        "Mounts: mounts /dev/termination-log → bind /dev/termination-log; the runtime adds → the kernel's own: /proc and /sys; "
        "the runtime adds → files and memory of the Pod: /dev/shm.",
        "Cgroup: cgroup_parent → cgroupsPath below it; cpu_shares → cpu.shares 102; cpu_quota → cpu.quota 10000; "
        "cpu_period → cpu.period 100000; memory_limit_in_bytes → memory.limit 67108864.",
    ]


@pytest.mark.parametrize("width", [560, 860, 1400])
def test_no_text_meets_another_or_leaves_the_sheet(width):
    assert clashes(Paper(of_pod(width=width))) == []


def test_each_pair_is_drawn_and_the_title_counts_them():
    drawn = Paper(of_pod())
    assert "network: join /proc/5288/ns/net" in drawn.words() and "namespace_options.network: POD" in drawn.words()
    assert drawn.words().count("the runtime adds") == 5
    assert drawn.heading == "What runc reads: 13 things that CRI asked for, 5 groups that the runtime adds"


def test_a_cgroup_namespace_is_drawn_but_not_told_since_it_is_the_kernels_choice():
    figure = of_pod()
    assert "cgroup: make a new one" in Paper(figure).words() and "cgroup: make" not in repr(figure)


def test_the_nodes_own_namespace_has_no_entry():
    pod = {**POD, "spec": {**POD["spec"], "hostNetwork": True}}
    only = [{"type": "pid"}, {"type": "ipc", "path": "/proc/7/ns/ipc"}, {"type": "mount"}]
    assert "network NODE → network: none: the node's own; network NODE → uts: none: the node's own" in repr(
        of_pod(pod, {"namespaces": only})
    )


def test_a_systemd_cgroup_is_below_its_slice():
    sandbox = {"linux": {"cgroup_parent": "/kubepods.slice/kubepods-pod5dac.slice"}}
    of_systemd = {"linux": {"cgroupsPath": "kubepods-pod5dac.slice:cri-containerd:f2f2f2"}}
    assert "cgroup_parent → cgroupsPath below it" in [pair.text for pair in pairs(of_systemd, sandbox, {})]
    elsewhere = {"linux": {"cgroupsPath": "other.slice:cri-containerd:f2f2f2"}}
    assert "cgroup_parent → cgroupsPath" in [pair.text for pair in pairs(elsewhere, sandbox, {})]


def test_what_is_missing_is_left_out():
    assert repr(bundle({}, {}, {})).startswith("Bundle:")
