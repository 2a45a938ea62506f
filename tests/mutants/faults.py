"""The faults. Each replaces a text that occurs exactly once in labkit (tests/unit/test_mutants.py)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """`old` becomes `new`. `tests`: what should notice, as pytest's arguments. `tier`: the first that has those tests."""

    name: str
    old: str
    new: str
    tests: tuple[str, ...]
    tier: str = "unit"


FAULTS = (
    Fault(
        "namespace: every container gets its Pod's PID namespace",
        'pb.POD if spec.get("shareProcessNamespace") else pb.CONTAINER',
        "pb.POD",
        ("tests/unit/test_podspec_messages.py",),
    ),
    Fault(
        "namespace: the node's IPC goes to who asked for its PIDs",
        'ipc=pb.NODE if spec.get("hostIPC")',
        'ipc=pb.NODE if spec.get("hostPID")',
        ("tests/unit/test_podspec_messages.py",),
    ),
    Fault(
        "status word: Error and Completed swapped",
        '"Error" if container.exit_code else "Completed"',
        '"Completed" if container.exit_code else "Error"',
        ("tests/unit/test_kubelet_statuses.py",),
    ),
    Fault(
        "status word: a Pod without init containers is PodInitializing",
        'waits = "PodInitializing" if pod["spec"].get("initContainers") else "ContainerCreating"',
        'waits = "PodInitializing"',
        ("tests/unit/test_kubelet_statuses.py",),
    ),
    Fault(
        "exit code: OnFailure starts again what succeeded",
        'policy == "OnFailure" and exit_code != 0',
        'policy == "OnFailure" and exit_code == 0',
        ("tests/unit/test_kubelet_actions.py",),
    ),
    Fault(
        "exit code: that of a recorded command is lost",
        "        return exit_code(process)\n",
        "        exit_code(process)\n        return 0\n",
        ("tests/unit/test_run.py",),
    ),
    Fault(
        "lock: two processes write a home's list of changes at once",
        "        fcntl.flock(lock, fcntl.LOCK_EX)\n        yield directory\n",
        "        yield directory\n",
        ("tests/unit/test_clean.py",),
    ),
    Fault(
        "lock: two relays serve one socket",
        "        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)\n    except BlockingIOError:\n        raise RelayRefused(",
        "        pass\n    except BlockingIOError:\n        raise RelayRefused(",
        ("tests/unit/test_relay.py::test_several_that_start_it_at_once_get_one_relay",),
    ),
    Fault(
        "lock: a stale object overwrites a newer one",
        '        if meta.get("resourceVersion") and meta["resourceVersion"] != old["metadata"]["resourceVersion"]:\n',
        "        if False:\n",
        ("tests/unit/test_kubeapi_rest.py",),
    ),
    Fault(
        "signal: a program that should end is killed at once",
        "    process.terminate()\n    try:\n        process.wait(grace_s)\n",
        "    process.kill()\n    try:\n        process.wait(grace_s)\n",
        ("tests/unit/test_services.py",),
    ),
    Fault(
        "signal: a kubelet that was held is not continued when its notebook dies",
        '[ -n "$(live "$holds" | grep -vxF "$name")" ] || kill -CONT "$@"\n',
        "",
        ("tests/unit/test_kubelet_pause.py",),
    ),
    Fault(
        "timeout: a command of the node runs as long as it likes",
        'capture_output=True, encoding="utf-8", errors="replace", timeout=timeout)\n    except FileNotFoundError:\n'
        '        raise NodeError(f"The node has no program',
        'capture_output=True, encoding="utf-8", errors="replace")\n    except FileNotFoundError:\n'
        '        raise NodeError(f"The node has no program',
        ("tests/unit/test_run.py",),
    ),
    Fault(
        "timeout: a container gets the least time to end, whatever its grace period",
        "left = max(grace_s - int(time.monotonic() - began), LEAST_S)",
        "left = LEAST_S",
        ("tests/unit/test_kubelet_stopping.py",),
    ),
    Fault(
        "mode: everybody reads locks, logs and tokens",
        "    os.fchmod(descriptor, PRIVATE)\n",
        "    os.fchmod(descriptor, 0o644)\n",
        ("tests/unit/test_trust.py",),
    ),
    Fault(
        "mode: everybody may connect to a relay",
        "    listener = socket.socket(socket.AF_UNIX)\n    before = os.umask(0o177)\n",
        "    listener = socket.socket(socket.AF_UNIX)\n    before = os.umask(0)\n",
        ("tests/unit/test_relay.py::test_a_relay_that_runs_is_kept_and_one_with_another_command_replaced",),
    ),
    Fault(
        "label: containers do not say of which Pod they are",
        ', POD_UID: metadata["uid"]}',
        "}",
        ("tests/unit/test_podspec_messages.py",),
    ),
    Fault(
        "back-off: the delay does not grow",
        "min(known.seconds * 2, self.longest)",
        "min(known.seconds, self.longest)",
        ("tests/unit/test_kubelet_backoff.py",),
    ),
    Fault(
        "probe: one failure is enough",
        'else self.spec.get("failureThreshold", 3)',
        "else 1",
        ("tests/unit/test_kubelet_probes.py",),
    ),
    Fault(
        "path: a name may lead one level up",
        'if name in (".", "..") or "/" in name',
        'if name in (".",) or "/" in name',
        ("tests/unit/test_safepath.py",),
    ),
    Fault(
        "escapes: a terminal's control characters reach it",
        "            shown.append(escaped(letter))\n            marks = MARKS\n",
        "            shown.append(letter)\n            marks = MARKS\n",
        ("tests/unit/test_showable.py",),
    ),
    Fault(
        "kernel: a process belongs to its real user, not to its effective one",
        "return Status(int(uids[1]), int(gids[1])",
        "return Status(int(uids[0]), int(gids[1])",
        ("tests/unit/test_kernel_parse.py",),
    ),
    Fault(
        "resources: the memory limit does not reach the runtime",
        "        memory_limit_in_bytes=min(memory_bytes, MAX_INT64),\n",
        "",
        ("tests/unit/test_podspec_messages.py",),
    ),
    Fault(
        "leftover: a Pod's sandbox is stopped and not removed",
        "    with gone_is_fine():\n        cri.remove_pod_sandbox(pod_sandbox_id=sandbox_id)\n",
        "",
        ("tests/unit/test_node_pods.py",),
    ),
    Fault(
        "leftover: the bridge stays after clean",
        "    links.remove_links(home.bridge)\n    for directory in sorted(",
        "    for directory in sorted(",
        ("tests/live/test_lifecycle.py::test_clean_leaves_the_machine_as_it_was",),
        "quick",
    ),
    Fault(
        "leftover: a deleted Pod's directory stays",
        "        self.configuration.mark(uid)\n        self.volumes.remove(uid)\n",
        "        self.configuration.mark(uid)\n",
        ("tests/unit/test_safepath.py",),
    ),
    Fault(
        "lock: two owners of one home",
        "        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)\n    except BlockingIOError:\n"
        '        log.error("another process owns',
        '        pass\n    except BlockingIOError:\n        log.error("another process owns',
        ("tests/unit/test_unexpected.py",),
    ),
    Fault(
        "exit code: a container that failed is said to have succeeded",
        "return int(status.exit_code)",
        "return 0",
        ("tests/unit/test_node_pods.py",),
    ),
    Fault(
        "signal: the virtual machine's containerd is asked to end where it should be killed, and the reverse",
        'self.sh(END, "KILL" if by_kill else "TERM"',
        'self.sh(END, "TERM" if by_kill else "KILL"',
        ("tests/live/test_vm.py", "-k", "kill"),
        "all",
    ),
)
