"""The parsers of labkit.kernel on text captured on Linux 6.18; cgroup v1 and v2 lists as man 7 cgroups gives their format."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.kernel import Mount, cgroup_mounts, parse
from labkit.kernel.cgroup import cgroups_of

DATA = Path(__file__).parent / "data"


def text(name: str) -> str:
    return (DATA / f"proc_{name}").read_bytes().decode(errors="surrogateescape")


def test_stat_whose_comm_looks_like_other_fields():
    stat = parse.parse_stat(text("stat_odd_comm"))
    assert stat.comm == "a) S (1 2\n) R 3"
    assert (stat.pid, stat.state, stat.ppid, stat.kernel_thread) == (15452, "S", 15411, False)
    assert stat.start_ns == 2067400000000


def test_stat_of_zombie_and_kernel_thread():
    assert parse.parse_stat(text("stat_zombie")).state == "Z"
    kernel_thread = parse.parse_stat(text("stat_kernel_thread"))
    assert (kernel_thread.comm, kernel_thread.ppid, kernel_thread.kernel_thread) == ("kthreadd", 0, True)


def test_status_has_the_pid_of_each_pid_namespace():
    uid, gid, ns_pids = parse.parse_status(text("status_nested_pid"))
    assert (uid, gid) == (0, 0)
    assert len(ns_pids) == 2 and ns_pids[1] == 1
    assert parse.parse_status(text("status_zombie")).ns_pids == (15453,)


def test_status_takes_the_effective_ids():
    changed = (
        text("status_odd_comm").replace("Uid:\t0\t0\t0\t0", "Uid:\t1\t2\t3\t4").replace("Gid:\t0\t0\t0\t0", "Gid:\t5\t6\t7\t8")
    )
    assert parse.parse_status(changed)[:2] == (2, 6)


def test_status_before_linux_4_1_has_no_ns_pids():
    old = "\n".join(line for line in text("status_odd_comm").split("\n") if not line.startswith("NS"))
    assert parse.parse_status(old).ns_pids == (15452,)


def test_cmdline_keeps_empty_arguments_and_spaces():
    arguments = parse.parse_cmdline(text("cmdline_odd"))
    assert arguments[-2:] == ("", "x y")
    assert parse.parse_cmdline("") == ()


def test_namespace_link():
    assert parse.parse_namespace_link("net:[4026531840]") == ("net", 4026531840)


@pytest.mark.parametrize("link", ["socket:[4711]", "/dev/null", "net:[", "net:[12", "anon_inode:[eventfd]", ""])
def test_namespace_link_refuses_what_is_none(link):
    with pytest.raises(ValueError):
        parse.parse_namespace_link(link)


@pytest.mark.parametrize("parser", [parse.parse_stat, parse.parse_status, parse.parse_ns_pids])
@pytest.mark.parametrize("nonsense", ["", "cat: /proc/1/stat: No such file or directory\n"])
def test_text_of_another_kind_is_refused(parser, nonsense):
    with pytest.raises(ValueError):
        parser(nonsense)


def test_mountinfo_resolves_escapes_and_skips_optional_fields():
    mounts = {mount.mount_point: mount for mount in parse.parse_mountinfo(text("mountinfo_hybrid"))}
    assert mounts["/tmp/cap/a dir"] == Mount(
        63, 43, "0:39", "/", "/tmp/cap/a dir", "tmpfs", "odd source", ("ro", "relatime", "size=4k")
    )
    assert mounts["/tmp/cap/back\\slash"].source == "none"
    assert mounts["/proc"].options == ("rw", "relatime")


def test_mountinfo_is_read_only_if_the_file_system_is():
    (mount,) = parse.parse_mountinfo("27 1 0:25 / /x rw,nosuid - tmpfs  ro,size=4k\n")
    assert mount.options == ("ro", "nosuid", "size=4k")
    assert mount.source == ""


def test_nsfs_mounts():
    mounts = parse.parse_mountinfo(text("mountinfo_hybrid"))
    assert parse.nsfs_mounts(mounts) == [("net", 4026532180, "/tmp/cap/ns")]


def test_cgroup_paths():
    hybrid = parse.parse_cgroup(text("cgroup_hybrid"))
    assert hybrid["memory"] == hybrid["cpu"] == hybrid[""] == "/kubepods/pod1"
    assert hybrid["name=systemd"] == "/"
    assert parse.parse_cgroup(text("cgroup_v2")) == {"": "/kubepods.slice/kubepods-pod1.slice/cri-containerd-abc:1.scope"}


def test_cgroup_mounts_of_a_hybrid_machine():
    mounts = cgroup_mounts(parse.parse_mountinfo(text("mountinfo_hybrid")))
    assert mounts.keys() == parse.parse_cgroup(text("cgroup_hybrid")).keys()
    assert mounts[""].mount_point == "/sys/fs/cgroup/unified"
    assert mounts["name=systemd"].mount_point == "/sys/fs/cgroup/systemd"


def test_cgroup_mounts_of_v2():
    mounts = cgroup_mounts(parse.parse_mountinfo(text("mountinfo_v2")))
    assert {name: mount.mount_point for name, mount in mounts.items()} == {"": "/sys/fs/cgroup"}


def test_cgroup_mounts_of_v1():
    mounts = cgroup_mounts(parse.parse_mountinfo(text("mountinfo_v1")))
    assert {name: mount.mount_point for name, mount in mounts.items()} == {
        "name=systemd": "/sys/fs/cgroup/systemd",
        "cpu,cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "memory": "/sys/fs/cgroup/memory",
        "cpuset": "/sys/fs/cgroup/cpuset",
    }


@pytest.mark.parametrize(
    ("machine", "controllers", "below"),
    [
        ("v1", "cpuacct,cpu", "sys/fs/cgroup/cpu,cpuacct/kubepods/pod1"),
        ("v1", "memory", "sys/fs/cgroup/memory/kubepods/pod1"),
        ("hybrid", "memory", "sys/fs/cgroup/memory/kubepods/pod1"),
        ("hybrid", "", "sys/fs/cgroup/unified/kubepods/pod1"),
        ("v2", "", "sys/fs/cgroup/kubepods.slice/kubepods-pod1.slice/cri-containerd-abc:1.scope"),
    ],
)
def test_cgroup_directory_and_files(tmp_path, machine, controllers, below):
    directory = tmp_path / below
    directory.mkdir(parents=True)
    (directory / "cgroup.procs").write_text("20\n3\n0\n")
    (directory / "memory.max").write_text("max\n")
    paths, mounts = parse.parse_cgroup(text(f"cgroup_{machine}")), parse.parse_mountinfo(text(f"mountinfo_{machine}"))
    cgroup = next(c for c in cgroups_of(paths, mounts, str(tmp_path)) if c.controllers == controllers)
    assert cgroup.directory == str(directory)
    assert cgroup.procs == (3, 20)
    assert cgroup.read("memory.max") == "max"
    assert cgroup.files() == {"memory.max": "max"}
    with pytest.raises(FileNotFoundError, match=r"no file cpu\.max\. These can be read: cgroup\.procs, memory\.max"):
        cgroup.read("cpu.max")


def test_cgroup_of_a_container_that_sees_only_its_own(tmp_path):
    (tmp_path / "cg" / "inner").mkdir(parents=True)
    (tmp_path / "outer").mkdir()
    mounts = parse.parse_mountinfo("30 1 0:28 /kubepods/pod1 /cg rw - cgroup2 cgroup rw\n")
    (inside,) = cgroups_of({"": "/kubepods/pod1/inner"}, mounts, str(tmp_path))
    assert inside.directory == str(tmp_path / "cg" / "inner")
    for path in ("/kubepods/pod10", "/", "/kubepods/pod1/gone"):
        (outside,) = cgroups_of({"": path}, mounts, str(tmp_path))
        assert (outside.directory, outside.procs) == ("", ())
        with pytest.raises(FileNotFoundError, match="No mount shows cgroup"):
            outside.read("memory.max")
    whole = parse.parse_mountinfo("30 1 0:28 / /cg rw - cgroup2 cgroup rw\n")
    (sibling,) = cgroups_of({"": "/../outer"}, whole, str(tmp_path))
    assert sibling.directory == ""


def test_process_from_the_text_of_its_files():
    process = parse.parse_process(
        text("stat_odd_comm"),
        text("status_odd_comm"),
        text("cgroup_hybrid"),
        text("cmdline_odd"),
        ["net:[7]", "pid:[9]"],
        "/bin/x",
    )
    assert process.namespaces == {"net": 7, "pid": 9}
    assert (process.cgroups["memory"], process.exe, process.ns_pids) == ("/kubepods/pod1", "/bin/x", (15452,))


def test_interfaces_from_ip_address():
    interfaces = {interface.name: interface for interface in parse.parse_ip_address(text("ip_address.json"))}
    assert interfaces["lo"].addresses == ("127.0.0.1/8", "::1/128")
    assert (interfaces["eth0"].kind, interfaces["eth0"].peer_index, interfaces["eth0"].index) == ("veth", 15, 3)
    assert (interfaces["cni0"].kind, interfaces["cni0"].peer_index) == ("bridge", None)
    assert interfaces["cni0"].addresses == ("10.9.0.1/16", "fd00:9::1/64")
    vlan = '[{"ifindex": 5, "ifname": "v", "link_index": 3, "mtu": 1500, "linkinfo": {"info_kind": "vlan"}}]'
    assert parse.parse_ip_address(vlan)[0].peer_index is None
    assert parse.parse_ip_address("") == parse.parse_ip_address("[{}]") == ()
