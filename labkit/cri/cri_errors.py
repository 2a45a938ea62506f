"""CriError: what failed, in the runtime's words, and what to do next, in one sentence.

gRPC says "UNAVAILABLE" for a missing socket, a stale one and a web server alike, so a failed connection is looked into
once more from here, with a plain connect(2).
"""

from __future__ import annotations

import re
import socket
import stat
from pathlib import Path

import grpc

from labkit.util.showable import ReadableError

CONNECT_SECONDS = 0.5
GONE = re.compile(r"could not find (container|pod)\b")
OUTPUT_OPEN = (
    "the command still runs, or a process that it left behind keeps its standard output or error open",
    "Let what stays write elsewhere (`… >/dev/null 2>&1 &`), or give a longer timeout=, in seconds.",
)
"""ExecSync answers when nobody can write to the command's output any more: a process in the background can, though the command
has ended."""
ANSWERS_LATE = "the endpoint accepts connections but did not answer within the time-out"


class CriError(ReadableError):
    """A CRI call that failed.

    `rpc` is the RPC's name ("" where no call was made), `code` the gRPC status code's name ("NOT_FOUND"), `message`
    what the runtime said, `hint` one sentence on what to do next. `str()` is all of it, ready to be printed.
    """

    shows_class = True

    def __init__(self, rpc: str, code: str, message: str, hint: str) -> None:
        self.rpc, self.code, self.message, self.hint = rpc, code, message, hint
        super().__init__(rpc, code, message, hint)

    @property
    def gone(self) -> bool:
        """Whether the sandbox or container of the call is not there: CRI-O answers some RPCs with UNKNOWN where containerd
        answers with NOT_FOUND."""
        return self.code == "NOT_FOUND" or (self.code == "UNKNOWN" and bool(GONE.search(self.message)))

    def __str__(self) -> str:
        where = f"{self.rpc} failed" if self.rpc else "The CRI endpoint cannot be used"
        return f"{where} ({self.code}): {self.message.rstrip('.')}.\n{self.hint}"


def from_rpc_error(rpc: str, error: grpc.RpcError, path: str) -> CriError:
    """The CriError for a failed call to the Unix socket `path`."""
    code, words = error.code().name, error.details() or "the runtime gave no reason"
    if "before receiving SETTINGS" in words:
        code = "DEADLINE_EXCEEDED"
    if code == "DEADLINE_EXCEEDED" and rpc == "ExecSync" and "Deadline Exceeded" not in words:
        return CriError(rpc, code, words, "The command did not end within its timeout=, in seconds: give it more.")
    if code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
        found = look_at(path)
        if found:
            return CriError(rpc, code, *found)
    if code == "DEADLINE_EXCEEDED" and rpc == "ExecSync":
        return CriError(rpc, code, *OUTPUT_OPEN)
    if code == "DEADLINE_EXCEEDED":
        return CriError(rpc, code, *_late(path))
    if code == "UNAVAILABLE":
        return CriError(rpc, code, *_broken_connection(words, path))
    return CriError(rpc, code, words, hint(rpc, code, words))


def look_at(path: str) -> tuple[str, str] | None:
    """Why nobody can be reached at `path`, and what to do; None if something accepts connections there."""
    try:
        mode = Path(path).stat().st_mode
    except PermissionError:
        return f"permission denied on the way to {path}", "Run as root, or as a member of the group that owns the socket."
    except OSError:
        return f"there is no socket at {path}", (
            "Start the container runtime, or check the path: `labkit doctor` shows which node can be used here."
        )
    if not stat.S_ISSOCK(mode):
        return f"{path} is not a socket", "Give the path of the runtime's Unix socket, often /run/containerd/containerd.sock."
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(CONNECT_SECONDS)
        try:
            probe.connect(path)
        except PermissionError:
            return f"permission denied on {path}", "Run as root, or as a member of the group that owns the socket."
        except ConnectionRefusedError:
            return f"{path} is a stale socket: the file is there, but nobody listens", (
                "Start the container runtime again (`labkit up`); it replaces the file."
            )
        except OSError:
            return None
    return None


def not_cri(rpc: str, path: str, words: str) -> CriError:
    """For a gRPC server that knows neither CRI v1 nor v1alpha2."""
    advice = "Give the CRI socket; if it is containerd's, its CRI plugin is disabled: see disabled_plugins in its config.toml."
    return CriError(rpc, "UNIMPLEMENTED", f"{path} speaks gRPC but not CRI ({words})", advice)


def hint(rpc: str, code: str, words: str) -> str:
    """One sentence on what to do about an answer of the runtime."""
    for codes, rpcs, pattern, advice in HINTS:
        if re.search(codes, code) and re.search(rpcs, rpc) and re.search(pattern, words, re.IGNORECASE):
            return advice
    return "Read the runtime's words above; its log says more."


def _late(path: str) -> tuple[str, str]:
    return f"{path}: {ANSWERS_LATE}", (
        "Pass a longer timeout= if the runtime is only slow; if every call ends so, it hangs or is no CRI runtime: restart it."
    )


def _broken_connection(words: str, path: str) -> tuple[str, str]:
    if re.search(r"HTTP/2|http1|SETTINGS", words):
        return f"{path} does not speak gRPC ({_last(words)})", "Give the runtime's CRI socket: another server listens here."
    if "failed to connect" in words:
        return f"{path} closes each connection ({_last(words)})", "Check that this is the CRI socket, and read the runtime's log."
    return f"the connection to {path} broke ({words})", "The runtime stopped or was restarted: call again."


def _last(words: str) -> str:
    """gRPC's own reason at the end of its long sentence."""
    return re.split(r"last error: [A-Z_]+: (?:unix:\S+: )?", words)[-1]


IMAGE = r"PullImage|ImageStatus|CreateContainer|RunPodSandbox"
HINTS = (
    ("UNIMPLEMENTED", "^Stream", "",
     "The RPC came with cri-api 0.36, and this runtime is older: call the List… RPC, which brings the same in one answer."),
    ("UNIMPLEMENTED", "", "", "This runtime or version does not serve that RPC: use another one, or a newer runtime."),
    ("", "", r"no space left", "The node's disk is full: remove containers and images (cri.remove_image()), then try again."),
    ("", "RunPodSandbox", r"sandbox image",
     "The pause image cannot be had: check sandbox_image in the runtime's configuration, and that its registry runs."),
    ("", IMAGE, r"401|unauthorized|insufficient_scope|authorization failed|pull access denied|no basic auth",
     "The registry wants credentials, or has no such image: check the name, or pass auth={'username': …, 'password': …}."),
    ("", "PullImage", r"connection refused|no such host|i/o timeout|dial tcp|network is unreachable",
     "The registry cannot be reached: check its name and port in the image reference, and that it runs."),
    ("", "PullImage", r"not found|manifest unknown|does not exist",
     "There is no such image in the registry: check its name and tag."),
    ("", "PullImage|CreateContainer", r"invalid reference|could not parse|failed to parse",
     "Write the image reference as registry/name:tag."),
    ("", "CreateContainer", r"image.*not found|failed to resolve image|no such image",
     "Pull the image first: cri.pull_image(image={'image': …})."),
    ("", "RunPodSandbox", r"cni|network", "The Pod's network could not be made: check the node's CNI configuration and plugins."),
    ("", "Sandbox", r"name .* is reserved|already exists",
     "A sandbox of this name, uid and attempt exists: remove it with cri.remove_pod_sandbox(), or raise attempt."),
    ("", "CreateContainer", r"name .* is reserved|already exists",
     "A container of this name and attempt exists in the sandbox: remove it with cri.remove_container(), or raise attempt."),
    ("", "CreateContainer|StartContainer|Exec|Attach", r"no running task|not (running|ready)|not in running state",
     "The sandbox or container does not run: look at its state with cri.pod_sandbox_status() or cri.container_status()."),
    ("", "StartContainer|Exec", r"executable file not found|no such file or directory",
     "The image has no such program: check command and args."),
    ("NOT_FOUND", "Container|Exec|Attach", r"sandbox", "List the sandboxes that exist with cri.list_pod_sandbox()."),
    ("NOT_FOUND", "Sandbox|PortForward", "", "List the sandboxes that exist with cri.list_pod_sandbox()."),
    ("NOT_FOUND", "Container|Exec|Attach", "", "List the containers that exist with cri.list_containers()."),
    ("NOT_FOUND", "Image", "", "List the images that the node has with cri.list_images()."),
    ("RESOURCE_EXHAUSTED", "", "message larger", "The answer is larger than 16 MiB, CRI's limit: narrow the call with filter=."),
    ("CANCELLED", "", "", "The call was cancelled: make it again if you still want its answer."),
    ("INVALID_ARGUMENT", "", "", "Correct the request: help() on the method lists its fields."),
)
"""(code, RPC, the runtime's words) as patterns, and the advice; the first that fits is given."""
