"""A sandbox and a credential-injecting, auditing proxy for programs that are not trusted.

A `CapabilitySet` says what a program may touch; `sandboxed_exec` runs one under it, and `apply`
confines the calling process. `start_proxy` starts the only door to the network that such a
program needs: it lets through what its `ProxyConfig` allows, puts credentials on requests so that
the program never holds them, and records every request.
"""

# Before all that is imported.
from nono_py import _planted as _planted  # isort: skip
from nono_py._enums import AccessMode, InjectMode
from nono_py._errors import (
    ConfigurationError,
    CredentialError,
    CredentialNotFoundError,
    NonoError,
    PathError,
    PathExistsError,
    PathNotADirectoryError,
    PathNotFoundError,
    PathPermissionError,
    PolicyError,
    ProxyError,
    SandboxError,
    SnapshotError,
    UnsupportedError,
)
from nono_py._nono_py import (
    AuditEvent,
    AuditEvents,
    CapabilitySet,
    CapabilitySource,
    Change,
    Check,
    ContentHash,
    DetectedAbi,
    Enforcement,
    ExclusionConfig,
    ExecResult,
    ExternalProxyConfig,
    FileState,
    FsCapability,
    OAuth2Config,
    Policy,
    ProxyConfig,
    ProxyHandle,
    QueryContext,
    ResolvedPolicy,
    RouteConfig,
    SandboxState,
    SessionMetadata,
    SnapshotManager,
    SnapshotManifest,
    SupportInfo,
    VaultConfig,
    Verification,
    __version__,
    apply,
    apply_auto_with_abi,
    apply_external,
    apply_landlock,
    apply_landlock_with_abi,
    apply_seccomp,
    apply_seccomp_with_abi,
    apply_unlink_overrides,
    build_session_diagnostic_report,
    detect_abi,
    embedded_policy_json,
    is_supported,
    load_embedded_policy,
    load_policy,
    merge_diagnostic_report_json,
    policy_schema_json,
    sandboxed_exec,
    start_proxy,
    support_info,
    validate_deny_overlaps,
)

#: Type checkers know it by its name; `typing` takes longer to import than all of this package.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from nono_py import audit, limited
    from nono_py._aio import Process, sandboxed_exec_async, sandboxed_spawn
    from nono_py._audit import AuditLogger
    from nono_py._explain import Explanation, explain
    from nono_py._learn import Learned, learn
    from nono_py._policy import RunResult, run
    from nono_py._snapshot import rollback_on_error

__all__ = [
    "AccessMode",
    "AuditEvent",
    "AuditEvents",
    "AuditLogger",
    "CapabilitySet",
    "CapabilitySource",
    "Change",
    "Check",
    "ConfigurationError",
    "ContentHash",
    "CredentialError",
    "CredentialNotFoundError",
    "DetectedAbi",
    "Enforcement",
    "ExclusionConfig",
    "ExecResult",
    "Explanation",
    "ExternalProxyConfig",
    "FileState",
    "FsCapability",
    "InjectMode",
    "Learned",
    "NonoError",
    "OAuth2Config",
    "PathError",
    "PathExistsError",
    "PathNotADirectoryError",
    "PathNotFoundError",
    "PathPermissionError",
    "Policy",
    "PolicyError",
    "Process",
    "ProxyConfig",
    "ProxyError",
    "ProxyHandle",
    "QueryContext",
    "ResolvedPolicy",
    "RouteConfig",
    "RunResult",
    "SandboxError",
    "SandboxState",
    "SessionMetadata",
    "SnapshotError",
    "SnapshotManager",
    "SnapshotManifest",
    "SupportInfo",
    "UnsupportedError",
    "VaultConfig",
    "Verification",
    "__version__",
    "apply",
    "apply_auto_with_abi",
    "apply_external",
    "apply_landlock",
    "apply_landlock_with_abi",
    "apply_seccomp",
    "apply_seccomp_with_abi",
    "apply_unlink_overrides",
    "audit",
    "build_session_diagnostic_report",
    "detect_abi",
    "embedded_policy_json",
    "explain",
    "is_supported",
    "learn",
    "limited",
    "load_embedded_policy",
    "load_policy",
    "merge_diagnostic_report_json",
    "policy_schema_json",
    "rollback_on_error",
    "run",
    "sandboxed_exec",
    "sandboxed_exec_async",
    "sandboxed_spawn",
    "start_proxy",
    "support_info",
    "validate_deny_overlaps",
]

#: What needs modules whose import takes longer than all of this package's, and where it is.
_LATE = {
    "AuditLogger": "nono_py._audit",
    "Explanation": "nono_py._explain",
    "Learned": "nono_py._learn",
    "Process": "nono_py._aio",
    "RunResult": "nono_py._policy",
    "explain": "nono_py._explain",
    "learn": "nono_py._learn",
    "run": "nono_py._policy",
    "rollback_on_error": "nono_py._snapshot",
    "sandboxed_exec_async": "nono_py._aio",
    "sandboxed_spawn": "nono_py._aio",
}


#: Modules that are imported when they are first asked for.
_MODULES = frozenset({"audit", "limited"})


def __getattr__(name: str) -> object:
    if name in _LATE or name in _MODULES:
        import importlib

        if name in _MODULES:
            return importlib.import_module(f"nono_py.{name}")
        return getattr(importlib.import_module(_LATE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE, *_MODULES})
