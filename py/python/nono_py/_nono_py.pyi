"""Types of the extension module."""

import os
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Final, Literal, TypeAlias, TypedDict, final, type_check_only

from nono_py._enums import AccessMode, InjectMode

__all__ = [
    "CapabilitySet",
    "ExecResult",
    "ExternalProxyConfig",
    "FsCapability",
    "ProxyConfig",
    "ProxyHandle",
    "RouteConfig",
    "SupportInfo",
    "__version__",
    "apply",
    "is_supported",
    "sandboxed_exec",
    "start_proxy",
    "support_info",
]

__version__: Final[str]

_Path: TypeAlias = str | os.PathLike[str]
_OsText: TypeAlias = str | bytes | os.PathLike[str]
_Environment: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]

@final
class FsCapability:
    """One granted path."""

    @property
    def original(self) -> str: ...
    @property
    def resolved(self) -> str: ...
    @property
    def access(self) -> AccessMode: ...
    @property
    def is_file(self) -> bool: ...

@final
class CapabilitySet:
    """What a process may touch: directories, files, and the network."""

    def __new__(cls) -> CapabilitySet: ...
    def allow_path(self, path: _Path, mode: AccessMode) -> None:
        """Grant a directory and everything below it."""

    def allow_file(self, path: _Path, mode: AccessMode) -> None:
        """Grant one file."""

    def block_network(self) -> None:
        """Deny all network access."""

    def proxy_only(self, proxy: ProxyHandle) -> None:
        """Deny all network access but TCP to `proxy`."""

    def fs_capabilities(self) -> list[FsCapability]:
        """Return the granted paths, in the order of granting."""

    @property
    def is_network_blocked(self) -> bool: ...
    def summary(self) -> str:
        """Return the grants in plain words, one a line."""

@final
class SupportInfo:
    """Whether, and by what, this machine can enforce a sandbox."""

    @property
    def is_supported(self) -> bool: ...
    @property
    def platform(self) -> str: ...
    @property
    def details(self) -> str: ...

def apply(caps: CapabilitySet) -> None:
    """Confine this process, its threads and all their children. There is no way back."""

def is_supported() -> bool:
    """Return whether sandboxing is available on this machine."""

def support_info() -> SupportInfo:
    """Return what sandboxing this machine offers."""

@final
class ExecResult:
    """What became of a program that ran in a sandbox."""

    @property
    def stdout(self) -> bytes: ...
    @property
    def stderr(self) -> bytes: ...
    @property
    def exit_code(self) -> int: ...
    @property
    def timed_out(self) -> bool: ...
    @property
    def truncated(self) -> bool: ...
    @property
    def duration(self) -> float: ...

def sandboxed_exec(
    caps: CapabilitySet,
    command: Sequence[str] | Sequence[bytes] | Sequence[os.PathLike[str]] | Sequence[_OsText],
    cwd: _Path | None = None,
    timeout_secs: float | None = None,
    env: _Environment | None = None,
    inherit_env: bool = False,
    max_processes: int | None = None,
    max_cpu_seconds: int | None = None,
    max_file_size_bytes: int | None = None,
    max_open_files: int | None = None,
    uid: int | None = None,
    gid: int | None = None,
    enforcement_mode: Literal["auto", "landlock", "seccomp"] = "auto",
) -> ExecResult:
    """Run a program that can touch only what `caps` grants, and wait for its end."""

@final
class RouteConfig:
    """A path prefix of the proxy, the upstream it leads to, and the credential put on the way."""

    def __new__(
        cls,
        prefix: str,
        upstream: str,
        credential_key: str | None = None,
        inject_mode: InjectMode = InjectMode.HEADER,
        inject_header: str = "Authorization",
        credential_format: str | None = None,
        path_pattern: str | None = None,
        path_replacement: str | None = None,
        query_param_name: str | None = None,
        env_var: str | None = None,
        endpoint_rules: Sequence[tuple[str, str]] = ...,
        tls_ca: _Path | None = None,
        tls_client_cert: _Path | None = None,
        tls_client_key: _Path | None = None,
        base_url_vars: Sequence[str] = ...,
        key_vars: Sequence[str] = ...,
        strip_client_credentials: bool = False,
    ) -> RouteConfig: ...
    @classmethod
    def preset(
        cls,
        name: Literal[
            "openai",
            "anthropic",
            "gemini",
            "azure-openai",
            "mistral",
            "groq",
            "openrouter",
            "github",
        ],
        *,
        credential_key: str | None,
        prefix: str = ...,
        upstream: str = ...,
        inject_mode: InjectMode = ...,
        inject_header: str = ...,
        credential_format: str | None = ...,
        path_pattern: str | None = ...,
        path_replacement: str | None = ...,
        query_param_name: str | None = ...,
        env_var: str | None = ...,
        endpoint_rules: Sequence[tuple[str, str]] = ...,
        tls_ca: _Path | None = ...,
        tls_client_cert: _Path | None = ...,
        tls_client_key: _Path | None = ...,
        base_url_vars: Sequence[str] = ...,
        key_vars: Sequence[str] = ...,
        strip_client_credentials: bool = ...,
    ) -> RouteConfig:
        """Return the route to a well-known API, with what its SDKs call their variables.

        What is given beside the name wins over the preset. `azure-openai` needs `upstream`: the
        endpoint of the resource. With `credential_key=None` the client brings its own key.
        """

    @property
    def prefix(self) -> str: ...
    @property
    def upstream(self) -> str: ...
    @property
    def credential_key(self) -> str | None: ...
    @property
    def inject_mode(self) -> InjectMode: ...
    @property
    def inject_header(self) -> str: ...
    @property
    def credential_format(self) -> str | None: ...
    @property
    def path_pattern(self) -> str | None: ...
    @property
    def path_replacement(self) -> str | None: ...
    @property
    def query_param_name(self) -> str | None: ...
    @property
    def env_var(self) -> str | None: ...
    @property
    def endpoint_rules(self) -> list[tuple[str, str]]: ...
    @property
    def tls_ca(self) -> str | None: ...
    @property
    def tls_client_cert(self) -> str | None: ...
    @property
    def tls_client_key(self) -> str | None: ...
    @property
    def base_url_vars(self) -> list[str]:
        """Variables that hold the base URL, besides `PREFIX_BASE_URL`."""

    @property
    def key_vars(self) -> list[str]:
        """Variables that hold what stands for the key, besides `PREFIX_API_KEY`."""

    @property
    def strip_client_credentials(self) -> bool:
        """Whether a credential of the client's own is removed, rather than refused."""

@final
class ExternalProxyConfig:
    """A proxy between this one and the world."""

    def __new__(cls, address: str, bypass_hosts: Sequence[str] = ...) -> ExternalProxyConfig: ...
    @property
    def address(self) -> str: ...
    @property
    def bypass_hosts(self) -> list[str]: ...

@final
class ProxyConfig:
    """What a proxy allows, where it leads, and where it listens."""

    def __new__(
        cls,
        allowed_hosts: Sequence[str] | None = None,
        routes: Sequence[RouteConfig] = ...,
        external_proxy: ExternalProxyConfig | None = None,
        bind_addr: str = "127.0.0.1",
        bind_port: int = 0,
        max_connections: int = 256,
        intercept_ca_dir: _Path | None = None,
        intercept_parent_ca_pems: bytes | None = None,
        allow_all_hosts: bool = False,
        denied_hosts: Sequence[str] = ...,
        require_auth: bool = True,
        head_timeout_secs: float = 60.0,
        connect_timeout_secs: float = 10.0,
        response_timeout_secs: float = 600.0,
        idle_timeout_secs: float = 600.0,
        audit_records: int = 250_000,
        workers: int | None = None,
        pool_idle_timeout_secs: float = 30.0,
        max_client_connections: int | None = None,
    ) -> ProxyConfig: ...
    @property
    def allowed_hosts(self) -> list[str]: ...
    @property
    def allow_all_hosts(self) -> bool: ...
    @property
    def routes(self) -> list[RouteConfig]: ...
    @property
    def bind_addr(self) -> str: ...
    @property
    def bind_port(self) -> int: ...
    @property
    def max_connections(self) -> int:
        """How many requests and tunnels may run at once; more are answered 503.

        0 is without limit.
        """

    @property
    def max_client_connections(self) -> int:
        """How many client connections may be open, idle ones included; more are answered 503.

        By default 10,000, but at most two in five of the files that the process may open.
        """

    @property
    def denied_hosts(self) -> list[str]:
        """Hosts that are refused whatever else allows them."""

    @property
    def require_auth(self) -> bool:
        """Whether clients must show the session token.

        `False` is for tests, or where another layer lets none but the right clients connect.
        """

    @property
    def head_timeout_secs(self) -> float:
        """How long a request's head may take, and a kept connection be idle."""

    @property
    def connect_timeout_secs(self) -> float:
        """How long connecting to an upstream may take, DNS and TLS included."""

    @property
    def response_timeout_secs(self) -> float:
        """How long an upstream may take to begin its response."""

    @property
    def idle_timeout_secs(self) -> float:
        """How long a body or tunnel may pass no byte; it is cut by twice that."""

    @property
    def pool_idle_timeout_secs(self) -> float:
        """How long an upstream connection is kept for its next request."""

    @property
    def audit_records(self) -> int:
        """How many records wait to be drained at most; then requests are refused."""

    @property
    def workers(self) -> int:
        """How many threads serve requests; by default one for each core, at most 4."""

@type_check_only
class NetworkAuditEvent(TypedDict):
    """What happened in one exchange: a request and its response, a tunnel, or a refusal."""

    timestamp_unix_ms: int
    mode: Literal["connect", "reverse"]
    decision: Literal["allow", "deny"]
    target: str
    port: int | None
    method: str | None
    path: str | None
    status: int | None
    reason: str | None
    route_id: str | None
    auth_mechanism: (
        Literal["proxy_authorization", "phantom_header", "phantom_path", "phantom_query"] | None
    )
    auth_outcome: Literal["succeeded", "failed", "not_required"] | None
    managed_credential_active: bool | None
    injection_mode: Literal["header", "url_path", "query_param", "basic_auth"] | None
    denial_category: str | None
    sequence: int
    id: str
    outcome: Literal["complete", "client_abort", "upstream_abort", "timeout", "shutdown", "refused"]
    duration_ms: float
    bytes_in: int
    bytes_out: int
    client: str | None

@type_check_only
class ProxyDiagnostic(TypedDict):
    """What a proxy found amiss when it started."""

    code: str
    severity: str
    route_prefix: str
    credential_ref: str
    message: str
    hint: str | None

@final
class ProxyHandle:
    """A running proxy."""

    @property
    def port(self) -> int: ...
    @property
    def address(self) -> str: ...
    def env_vars(self) -> dict[str, str]:
        """Return variables that lead a program's traffic through the proxy."""

    def credential_env_vars(self) -> dict[str, str]:
        """Return variables that lead SDKs to the routes, with what stands for their keys."""

    def sandbox_env(self, extra_env: _Environment | None = None) -> list[tuple[str, str]]:
        """Return the whole environment for a sandboxed program, sorted by name."""

    def drain_audit_events(self) -> list[NetworkAuditEvent]:
        """Take the records gathered since the last call, oldest first."""

    def diagnostics(self) -> list[ProxyDiagnostic]:
        """Return what the proxy found amiss when it started."""

    def diagnostics_json(self) -> str:
        """Return `diagnostics()` as JSON."""

    def shutdown(self, timeout: float = 5.0) -> None:
        """Stop accepting, let what is under way end within `timeout` seconds, cut the rest.

        A further call waits too, and can shorten the time, not lengthen it.
        """

    def __enter__(self) -> ProxyHandle: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...
    async def __aenter__(self) -> ProxyHandle: ...
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

def start_proxy(config: ProxyConfig) -> ProxyHandle:
    """Start a proxy and return a handle to it."""
