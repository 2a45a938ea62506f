"""What a container's hooks and probes do: run a command in it, ask it by HTTP, TCP or gRPC, or only wait.

Knowledge: kubelet's lifecycle/handlers.go, kubernetes' pkg/probe/{exec,http,tcp,grpc}.
"""

from __future__ import annotations

import http.client
import io
import logging
import re
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import grpc
from google.protobuf.wrappers_pb2 import StringValue

from labkit.cri import CriClient, CriError
from labkit.kubelet.go_format import go_code, go_duration, kernel_words, pod_words, rpc_error
from labkit.podspec.go_text import go_quote

log = logging.getLogger("kubelet")

OUTPUT_BYTES = 10 * 1024
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"
NO_TIME = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
NO_TLS = "http: server gave HTTP response to HTTPS client"
BROKEN = "net/http: HTTP/1.x transport connection broken"
PLAIN_HTTP = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")
"""OpenSSL's reasons for an answer that is no TLS."""
PORTS = {"http": 80, "https": 443}
REDIRECTS = 10
FOLLOWED = (301, 302, 303, 307, 308)
NEVER_SENT = ("Content-Length", "Transfer-Encoding", "Trailer")
SAFE = "/%:@!$&'()*+,;=~"
"""What may stand in a path as it is, besides letters and digits (RFC 3986)."""


class HookFailed(Exception):
    """A hook or probe ran and failed; the words are the kubelet's."""


class CommandFailed(HookFailed):
    """A command ended with another exit code than 0. why: what the kubelet's client of the runtime says of it; output: all that
    it wrote, stdout before stderr."""

    def __init__(self, why: str, output: bytes) -> None:
        self.why, self.output = why, output
        super().__init__(output[:OUTPUT_BYTES].decode(errors="replace"))


class HookError(Exception):
    """A hook or probe could not be run at all."""


def port_of(port: Any, container: Mapping[str, Any]) -> int:
    """A port by number, or by its name in the container (probe.ResolveContainerPort). Raises HookError."""
    for known in container.get("ports", ()):
        if known.get("name") == port:
            return int(known["containerPort"])
    try:
        number = int(port)
    except ValueError:
        raise HookError(f"strconv.Atoi: parsing {go_quote(str(port))}: invalid syntax") from None
    if 0 < number < 65536:
        return number
    raise HookError(f"invalid port number: {number}")


def run_command(cri: CriClient, container_id: str, command: list[str], timeout_s: int) -> None:
    """ExecSync. Raises CommandFailed, HookFailed where it took too long, HookError where it could not run."""
    try:
        answer = cri.exec_sync(container_id=container_id, cmd=command, timeout=timeout_s)
    except CriError as error:
        if error.code == "DEADLINE_EXCEEDED":
            words = " ".join(command)
            raise HookFailed(f"command timed out: {go_quote(words)} timed out after {go_duration(timeout_s)}") from None
        raise HookError(rpc_error(error)) from None
    if answer.exit_code:
        why = f"command '{' '.join(command)}' exited with {answer.exit_code}: {answer.stderr.decode(errors='replace')}"
        raise CommandFailed(why, answer.stdout + answer.stderr)


def http_get(action: Mapping[str, Any], container: Mapping[str, Any], pod_ip: str, timeout_s: float, agent: str) -> str:
    """A probe's GET; 200 to 399 is success, and the words of a warning about that, "" for none. Raises HookFailed, HookError."""
    status, body = http_answer(action, container, pod_ip, timeout_s, agent)
    if not 200 <= status < 400:
        raise HookFailed(f"HTTP probe failed with statuscode: {status}")
    return f"Probe terminated redirects, Response body: {body}" if status >= 300 else ""


def http_answer(
    action: Mapping[str, Any], container: Mapping[str, Any], pod_ip: str, timeout_s: float, agent: str
) -> tuple[int, str]:
    """GET; the status code and the body that came. Redirects to the same host are followed, all within `timeout_s`. Raises
    HookFailed without an answer, HookError."""
    host, port = action.get("host") or pod_ip, port_of(action["port"], container)
    scheme, shown = action.get("scheme", "HTTP").lower(), f"[{host}]" if ":" in host else host
    url = f"{scheme}://{shown}:{port}{url_path(action.get('path') or '/')}"
    headers = request_headers(action.get("httpHeaders") or (), agent)
    target, deadline = url, time.monotonic() + timeout_s
    for _ in range(REDIRECTS):
        status, location, body = _get(target, headers, deadline)
        if not location or status not in FOLLOWED or not (following := redirected(target, location)):
            return status, body
        target = following
    raise HookFailed(f'Get "{location}": stopped after {REDIRECTS} redirects')


def redirected(url: str, location: str) -> str:
    """Where a redirect leads, "" where that is another host. Raises HookFailed where nobody can go."""
    try:
        following = urlsplit(urljoin(url, location))
        _ = following.port  # it is read only now
    except ValueError as error:
        raise HookFailed(f'Get "{url}": failed to parse Location header {go_quote(location)}: {error}') from None
    if following.hostname != urlsplit(url).hostname:
        return ""
    if following.scheme not in PORTS:
        raise HookFailed(f'Get "{location}": unsupported protocol scheme {go_quote(following.scheme)}')
    return following.geturl()


def url_path(path: str) -> str:
    """A manifest's path as it stands in the URL: one that is no path of a URL is escaped as a whole (probe/http's formatURL)."""
    broken = re.search(r"%(?![0-9A-Fa-f]{2})|[\0-\x1f\x7f]", path) or ":" in path.partition("/")[0]
    escaped = quote(path, safe=SAFE.replace("%", "") if broken else SAFE + "?#")
    return escaped if escaped.startswith("/") else f"/{escaped}"


def request_headers(given: Iterable[Mapping[str, str]], agent: str) -> list[tuple[str, str]]:
    """The headers of a probe's or hook's request as Go sends them (probe/http's request.go, net/http's Request.Write): each value
    of a name, sorted by name; an Accept or User-Agent that is given as empty is not sent. "Host" is there when it is given."""
    named: dict[str, list[str]] = {}
    for header in given:
        named.setdefault("-".join(part.capitalize() for part in header["name"].split("-")), []).append(header.get("value", ""))
    named.setdefault("User-Agent", [agent])
    if not named.setdefault("Accept", ["*/*"])[0]:
        del named["Accept"]
    first = [(name, named.pop(name)[0]) for name in ("Host", "User-Agent") if name in named]
    rest = [(name, value) for name in sorted(named) if name not in NEVER_SENT for value in named[name]]
    return [pair for pair in first if pair[1]] + rest + [("Connection", "close")]


def _get(url: str, headers: list[tuple[str, str]], deadline: float) -> tuple[int, str, str]:
    first, parts, timeout_s = url, urlsplit(url), seconds_until(deadline)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    address = f"{host}:{port}"
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl._create_unverified_context()  # the kubelet does not verify a probed server's certificate either
        connection = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.connect()
    except ssl.SSLError as error:
        connection.close()
        raise HookFailed(f'Get "{first}": {tls_words(error)}') from None
    except TimeoutError:
        connection.close()
        raise HookFailed(f'Get "{first}": {NO_TIME}') from None
    except OSError as error:
        connection.close()
        raise HookFailed(f'Get "{first}": dial tcp {address}: connect: {kernel_words(error)}') from None
    try:
        for name, value in headers:
            if re.search(r"[\0-\x08\x0a-\x1f\x7f]", value):
                raise HookFailed(f'Get "{first}": net/http: invalid header field value for {go_quote(name)}')
        target = quote(parts.path or "/", safe=SAFE) + (f"?{parts.query}" if parts.query else "")
        named = any(name == "Host" for name, _ in headers)
        connection.putrequest("GET", target, skip_host=named, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value.encode(errors="surrogateescape"))
        connection.endheaders()
        connection.response_class = lambda sock, **how: http.client.HTTPResponse(  # type: ignore[assignment]
            Until(deadline, sock), **how  # type: ignore[arg-type]  # of a socket it uses makefile alone
        )
        with connection.getresponse() as answer:
            return answer.status, answer.getheader("Location") or "", answer.read(OUTPUT_BYTES).decode(errors="replace")
    except TimeoutError:
        raise HookFailed(f'Get "{first}": {NO_TIME}') from None
    except http.client.RemoteDisconnected:
        raise HookFailed(f'Get "{first}": EOF') from None
    except OSError as error:
        raise HookFailed(f'Get "{first}": read tcp {local_address(connection)}->{address}: read: {kernel_words(error)}') from None
    except http.client.BadStatusLine as error:
        raise HookFailed(f'Get "{first}": {BROKEN}: malformed HTTP response {go_quote(str(error.args[0]).strip())}') from None
    except (http.client.HTTPException, ValueError) as error:
        raise HookFailed(f'Get "{first}": {BROKEN}: {error}') from None
    finally:
        connection.close()


class Until(io.RawIOBase):
    """What comes on a socket until `deadline`, for http.client. A timeout of the socket itself begins anew with each byte that
    comes."""

    def __init__(self, deadline: float, sock: socket.socket) -> None:
        self.deadline, self.sock, self.file = deadline, sock, sock.makefile("rb", buffering=0)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if time.monotonic() >= self.deadline:
            raise TimeoutError  # what is there already comes within any timeout of the socket
        self.sock.settimeout(seconds_until(self.deadline))
        return self.file.readinto(buffer)

    def close(self) -> None:
        self.file.close()
        super().close()


def seconds_until(deadline: float) -> float:
    """Seconds that are left of a time.monotonic(); never 0, which would mean not to wait at all."""
    return max(deadline - time.monotonic(), 0.001)


def tls_words(error: ssl.SSLError) -> str:
    """Go's words for a failed handshake."""
    return NO_TLS if error.reason in PLAIN_HTTP else f"tls: {error.reason or error}"


def local_address(connection: http.client.HTTPConnection) -> str:
    try:
        host, port = connection.sock.getsockname()[:2]
        return f"{host}:{port}"
    except (AttributeError, OSError):
        return ""


def tcp_open(action: Mapping[str, Any], container: Mapping[str, Any], pod_ip: str, timeout_s: float) -> None:
    """Connect and hang up. Raises HookFailed, HookError."""
    host, port = action.get("host") or pod_ip, port_of(action["port"], container)
    try:
        socket.create_connection((host, port), timeout_s).close()
    except TimeoutError:
        raise HookFailed(f"dial tcp {host}:{port}: i/o timeout") from None
    except OSError as error:
        raise HookFailed(f"dial tcp {host}:{port}: connect: {kernel_words(error)}") from None


def health_request(service: str) -> bytes:
    """grpc.health.v1.HealthCheckRequest, which like a StringValue has one text, as its field 1."""
    return StringValue(value=service).SerializeToString()


def grpc_check(action: Mapping[str, Any], pod_ip: str, timeout_s: float) -> None:
    """gRPC's health check (grpc.health.v1). Raises HookFailed."""
    address = f"{pod_ip}:{action['port']}"
    request = health_request(action.get("service") or "")
    end = time.monotonic() + timeout_s
    with grpc.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout_s)
        except grpc.FutureTimeoutError:
            words = f'timeout: failed to connect service "{address}" within {go_duration(timeout_s)}'
            raise HookFailed(f"{words}: context deadline exceeded") from None
        try:
            answer = channel.unary_unary(HEALTH_CHECK, None, None)(request, timeout=seconds_until(end))
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                words = "this server does not implement the grpc health protocol (grpc.health.v1.Health)"
                raise HookFailed(f"error: {words}: {error.details()}") from None
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise HookFailed(f"timeout: health rpc did not complete within {go_duration(timeout_s)}") from None
            message = f"rpc error: code = {go_code(error.code().name)} desc = {error.details()}"
            raise HookFailed(f"error: health rpc probe failed: {message}") from None
    if answer != SERVING:
        raise HookFailed(f"service unhealthy (responded with \"{'NOT_SERVING' if answer == bytes([8, 2]) else 'UNKNOWN'}\")")


def run_hook(
    cri: CriClient, pod: Mapping[str, Any], container: Mapping[str, Any], container_id: str, hook: Mapping[str, Any], pod_ip: str,
    timeout_s: int = 0,
) -> str:
    """A postStart or preStop hook; the words of a warning about the Pod, "" for none. Any answer to a hook's GET is good: only
    one that does not come fails. Raises HookFailed with the message for the container's status."""
    words = f"for Container \"{container['name']}\" in Pod \"{pod_words(pod)}\" failed - error: "
    try:
        if "exec" in hook:
            run_command(cri, container_id, hook["exec"]["command"], timeout_s)
        elif "httpGet" in hook:
            return http_hook(hook["httpGet"], container, pod_ip, timeout_s or 30)
        elif "sleep" in hook:
            time.sleep(min(hook["sleep"]["seconds"], timeout_s) if timeout_s else hook["sleep"]["seconds"])
        elif "tcpSocket" in hook:
            raise HookError("invalid handler: tcpSocket")
    except Exception as error:
        if not isinstance(error, (HookFailed, HookError)):
            log.exception("a hook of %s could not be run", container["name"])
        if "exec" in hook:
            why, output = (error.why, error.output) if isinstance(error, CommandFailed) else (str(error), b"")
            what = f"Exec lifecycle hook ([{' '.join(hook['exec']['command'])}]) {words}{why}"
            raise HookFailed(f"{what}, message: {go_quote(output.decode(errors='surrogateescape'))}") from None
        if "httpGet" in hook:
            raise HookFailed(f"HTTP lifecycle hook ({hook['httpGet'].get('path', '')}) {words}{error}") from None
        raise HookFailed(f"Cannot run handler: {error}") from None
    return ""


def http_hook(action: Mapping[str, Any], container: Mapping[str, Any], pod_ip: str, timeout_s: float) -> str:
    """A hook's GET: HTTPS that meets plain HTTP is asked again without TLS, and that is said. Raises HookFailed, HookError."""
    agent = "kube-lifecycle/labkit"
    try:
        http_answer(action, container, pod_ip, timeout_s, agent)
        return ""
    except HookFailed as error:
        if not str(error).endswith(NO_TLS):
            raise
    # What is secret is not sent in the clear.
    headers = [header for header in action.get("httpHeaders") or () if header["name"].lower() != "authorization"]
    http_answer({**action, "scheme": "HTTP", "httpHeaders": headers}, container, pod_ip, timeout_s, agent)
    address = f"{action.get('host') or pod_ip}:{port_of(action['port'], container)}"
    return f"request to HTTPS lifecycle hook {address} got HTTP response, retry with HTTP succeeded"
