"""Types of the extension module."""

import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Protocol, TypeAlias, TypedDict, final, type_check_only

from typing_extensions import NotRequired

from nono_py._enums import AccessMode, InjectMode

__all__ = [
    "AuditEvent",
    "AuditEvents",
    "CapabilitySet",
    "CapabilitySource",
    "Change",
    "Check",
    "ContentHash",
    "DetectedAbi",
    "Enforcement",
    "ExclusionConfig",
    "ExecResult",
    "ExternalProxyConfig",
    "FileState",
    "FsCapability",
    "OAuth2Config",
    "Policy",
    "ProxyConfig",
    "ProxyHandle",
    "QueryContext",
    "ResolvedPolicy",
    "RouteConfig",
    "SandboxState",
    "SessionMetadata",
    "SnapshotManager",
    "SnapshotManifest",
    "SupportInfo",
    "VaultConfig",
    "Verification",
    "_Child",
    "_Command",
    "_Judge",
    "_Run",
    "_SessionLog",
    "_SigningKey",
    "__version__",
    "_audit_model",
    "_check_credential",
    "_check_session_id",
    "_dsse_pae",
    "_inclusion_proof",
    "_ledger_record",
    "_list_credentials",
    "_observe",
    "_refusals",
    "_session_digest",
    "_store_credential",
    "_verify_audit",
    "_verify_bundle",
    "_verify_bundle_in",
    "_verify_inclusion_proof",
    "_verify_ledger",
    "_verify_log",
    "apply",
    "apply_auto_with_abi",
    "apply_external",
    "apply_landlock",
    "apply_landlock_with_abi",
    "apply_seccomp",
    "apply_seccomp_with_abi",
    "apply_unlink_overrides",
    "build_session_diagnostic_report",
    "detect_abi",
    "embedded_policy_json",
    "is_supported",
    "load_embedded_policy",
    "load_policy",
    "merge_diagnostic_report_json",
    "policy_schema_json",
    "sandboxed_exec",
    "start_proxy",
    "support_info",
    "validate_deny_overlaps",
]

__version__: Final[str]

_OsText: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]
_Path: TypeAlias = _OsText
_Buffer: TypeAlias = bytes | bytearray | memoryview
_Words: TypeAlias = Sequence[str] | Sequence[bytes] | Sequence[os.PathLike[str]] | Sequence[_OsText]
_Pairs: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]
_Environment: TypeAlias = _Pairs

_Value: TypeAlias = str | bytes
_Expiring: TypeAlias = _Value | tuple[_Value, datetime | timedelta | float | None]
_Credential: TypeAlias = _Value | Callable[[], _Expiring] | Callable[[], Awaitable[_Expiring]]

@type_check_only
class _HasFileno(Protocol):
    def fileno(self) -> int: ...

_Stream: TypeAlias = int | _HasFileno

@final
class CapabilitySource:
    """Who granted a path: the program itself, a group of a policy, or this library."""

    @staticmethod
    def user() -> CapabilitySource:
        """Return the program itself."""

    @staticmethod
    def group(name: str) -> CapabilitySource:
        """Return the group of this name in a policy."""

    @staticmethod
    def system() -> CapabilitySource:
        """Return this library: what programs need to start."""

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __copy__(self) -> CapabilitySource: ...
    def __deepcopy__(self, memo: object, /) -> CapabilitySource: ...
    def __reduce__(self) -> tuple[object, tuple[str, ...]]: ...

@final
class FsCapability:
    """One granted path."""

    @property
    def original(self) -> str:
        """The path as it was given."""

    @property
    def resolved(self) -> str:
        """The path that the grant is for: absolute, and without symbolic links."""

    @property
    def access(self) -> AccessMode:
        """What may be done there."""

    @property
    def is_executable(self) -> bool:
        """Whether what can be read can be executed too."""

    @property
    def is_file(self) -> bool:
        """Whether the grant is for one file."""

    @property
    def source(self) -> CapabilitySource:
        """Who granted it."""

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __copy__(self) -> FsCapability: ...
    def __deepcopy__(self, memo: object, /) -> FsCapability: ...

@final
class CapabilitySet:
    """What a process may touch: directories, files, sockets, and the network.

    Every set starts empty and each call grants more. A set may be shared between threads; a sandbox
    takes the grants as they are when it starts.
    """

    def __new__(cls) -> CapabilitySet: ...
    def allow_path(self, path: _Path, mode: AccessMode, *, execute: bool = True) -> None:
        """Grant a directory and everything below it.

        With `execute=False`, what can be read there cannot be executed as a program. It can still
        be interpreted, or copied into memory and run there.
        """

    def allow_file(self, path: _Path, mode: AccessMode, *, execute: bool = True) -> None:
        """Grant one file. With `execute=False`, it cannot be executed as a program."""

    def deny_path(self, path: _Path) -> None:
        """Keep every grant from a path and all below it, there or not, as links lead to it now.

        A grant to read that reaches it is split when a sandbox begins, into what else is there.
        What comes later cannot be opened, but where no denied directory was beneath, its names can
        be listed. The path is denied wherever it is mounted, as far as `/proc/self/mountinfo` can
        be read, and a hard link to it is not.
        """

    def allow_interpreter(self) -> None:
        """Grant what this Python needs to run, import and show tracebacks, to be read only.

        The system's programs and libraries, Python's own, and the directories of `sys.path`.
        """

    def allow_system(self) -> None:
        """Grant what the system's programs need to start, to be read only.

        Programs, libraries, certificates, `/dev/null` and the like, and a process's own part of
        `/proc`; no home, no `/run`, no `/sys`, no `/tmp`.
        """

    def allow_temp(self) -> str:
        """Grant the directories for temporary files and for shared memory, to read and to write.

        Return the path of the first. `multiprocessing` needs both.
        """

    def block_network(self) -> None:
        """Deny all network access."""

    def proxy_only(self, proxy: ProxyHandle) -> None:
        """Deny all network access but TCP to `proxy`; grant reading its certificates.

        One that was shut down is a `ProxyError`: somebody else may listen there.
        """

    def allow_localhost_port(self, port: int) -> None:
        """Grant a TCP port of this machine's loopback addresses, to connect to and to serve at."""

    def allow_tcp_connect_port(self, port: int) -> None:
        """Grant TCP connections to a port of any host."""

    def allow_bind_port(self, port: int) -> None:
        """Grant serving TCP at a port."""

    def allow_unix_socket(self, path: _Path) -> None:
        """Grant connections to a unix socket, or to all below a directory."""

    def accept_less(self) -> None:
        """Begin sandboxes also where this machine cannot enforce everything.

        What is missing is in the report.
        """

    def platform_rule(self, rule: str) -> None:
        """Add a rule of the Seatbelt profile language, for macOS. Checked everywhere.

        It is `(allow OPERATION... FILTER...)`, or the same with `deny`, of filters that are known,
        and must not open the whole file system; what it opens besides is not judged.
        """

    def deduplicate(self) -> None:
        """Make one grant of all that are of the same object."""

    def path_covered(self, path: _Path) -> bool:
        """Return whether a granted directory covers the path, followed as the kernel would."""

    def fs_capabilities(self) -> list[FsCapability]:
        """Return the granted paths, in the order of granting."""

    @property
    def denied_paths(self) -> list[str]:
        """The denied paths, without symbolic links."""

    @property
    def unix_sockets(self) -> list[str]:
        """The granted unix sockets and directories of them, without symbolic links."""

    @property
    def tcp_connect_ports(self) -> list[int]:
        """The TCP ports of any host that may be connected to."""

    @property
    def bind_ports(self) -> list[int]:
        """The TCP ports that may be served at."""

    @property
    def localhost_ports(self) -> list[int]:
        """The TCP ports of loopback addresses that may be connected to and served at."""

    @property
    def is_network_blocked(self) -> bool:
        """Whether the network is closed, but for a proxy or granted ports."""

    @property
    def _network(self) -> str: ...
    def _keep_ports_of(self, other: CapabilitySet) -> None: ...
    def verify(self) -> Verification:
        """Have a child in a sandbox of this set try what the set does not grant.

        Return what the kernel answered. What the child tries does no harm if it is let through.
        """

    def summary(self) -> str:
        """Return the grants in plain words, one a line."""

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __copy__(self) -> CapabilitySet: ...
    def __deepcopy__(self, memo: object, /) -> CapabilitySet: ...
    def __reduce__(self) -> tuple[object, tuple[str]]: ...

@type_check_only
class _PathGranted(TypedDict):
    status: Literal["allowed"]
    reason: Literal["granted_path"]
    granted_path: str
    access: Literal["read", "write", "read+write"]

@type_check_only
class _PathInsufficient(TypedDict):
    status: Literal["denied"]
    reason: Literal["insufficient_access"]
    granted: Literal["read", "write", "read+write"]
    requested: Literal["read", "write", "read+write"]

@type_check_only
class _PathDenied(TypedDict):
    status: Literal["denied"]
    reason: Literal["path_denied"]
    denied_path: str

@type_check_only
class _PathNotGranted(TypedDict):
    status: Literal["denied"]
    reason: Literal["path_not_granted"]

@type_check_only
class _SetRefused(TypedDict):
    status: Literal["denied"]
    reason: Literal["set_refused"]
    message: str

@type_check_only
class _NetworkAllowed(TypedDict):
    status: Literal["allowed"]
    reason: Literal["network_allowed", "proxy", "port_granted", "socket_granted"]

@type_check_only
class _NetworkDenied(TypedDict):
    status: Literal["denied"]
    reason: Literal["network_blocked", "port_not_granted", "socket_not_granted"]
    suggestion: NotRequired[str]

@type_check_only
class _ProcessAllowed(TypedDict):
    status: Literal["allowed"]
    reason: Literal["granted_path", "not_judged"]
    granted_path: NotRequired[str]

@type_check_only
class _ProcessDenied(TypedDict):
    status: Literal["denied"]
    reason: Literal["process_outside", "path_not_granted"]
    suggestion: NotRequired[str]

_PathAnswer: TypeAlias = (
    _PathGranted | _PathInsufficient | _PathDenied | _PathNotGranted | _SetRefused
)
_ProcessAnswer: TypeAlias = _ProcessAllowed | _ProcessDenied | _SetRefused
_NetworkAnswer: TypeAlias = _NetworkAllowed | _NetworkDenied | _SetRefused

@final
class QueryContext:
    """Answers what a `CapabilitySet` allows, from the rules that a sandbox of it enforces.

    The set is taken as it is now. Paths are followed as the kernel would when it is asked.
    """

    def __new__(cls, caps: CapabilitySet) -> QueryContext: ...
    def query_path(self, path: _Path, mode: AccessMode) -> _PathAnswer:
        """Return whether a path may be used this way."""

    def suggest_path(self, path: _Path, mode: AccessMode) -> str | None:
        """Return the smallest grant that would allow it, as the call that makes it.

        `None` if it is allowed already, or denied by a rule of its own.
        """

    def query_network(
        self, host: str | None = None, port: int | None = None, *, bind: bool = False
    ) -> _NetworkAnswer:
        """Return whether the network may be used.

        With `port`, for a TCP connection to it or, with `bind=True`, for serving at it; with
        `host`, an address or `localhost`, at that one. A name stands for any host.
        """

    def query_unix_socket(self, path: _Path) -> _NetworkAnswer:
        """Return whether a unix socket with a path may be connected to."""

    def query_process(self, action: Literal["signal", "trace", "change", "see"]) -> _ProcessAnswer:
        """Return whether this may be done to processes outside the sandbox.

        To signal them; to trace them and read their memory; to change their priorities and
        limits; to see their names and arguments in `/proc`.
        """

@final
class SandboxState:
    """All that a `CapabilitySet` grants, as text that can be reviewed, kept, and turned back."""

    @staticmethod
    def from_caps(caps: CapabilitySet) -> SandboxState:
        """Return what `caps` grants now."""

    @staticmethod
    def from_json(json: str) -> SandboxState:
        """Read what `to_json` wrote. Unknown fields are refused."""

    def to_json(self) -> str:
        """Return the text: JSON, indented."""

    def to_caps(self) -> CapabilitySet:
        """Grant anew. A path that leads elsewhere than the text says is refused."""

    @property
    def net_blocked(self) -> bool:
        """Whether the network is blocked, or left to a proxy alone."""

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[object, tuple[str]]: ...

@final
class ContentHash:
    """The SHA-256 of a content, or a root over several."""

    def hex(self) -> str:
        """Return the 64 hexadecimal digits."""

    @staticmethod
    def _of(digits: str) -> ContentHash: ...
    def __reduce__(self) -> tuple[object, tuple[str]]: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class FileState:
    """A file in a snapshot.

    `size` is in bytes, `mtime` in seconds since the epoch, `permissions` are `st_mode`.
    """

    @property
    def hash(self) -> ContentHash:
        """The SHA-256 of its content."""

    @property
    def size(self) -> int:
        """Its size in bytes."""

    @property
    def mtime(self) -> int:
        """When its content last changed, in seconds since the epoch."""

    @property
    def permissions(self) -> int:
        """Its type and mode: `st_mode`."""

    @staticmethod
    def _of(content: ContentHash, size: int, mtime: int, permissions: int) -> FileState: ...
    def __reduce__(self) -> tuple[object, tuple[ContentHash, int, int, int]]: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class SnapshotManifest:
    """What was there when a snapshot was made.

    It is not pickled, for it may be of very many files: `load_manifest(number)` reads it anywhere.
    """

    @property
    def number(self) -> int:
        """Its number in the session, from 0."""

    @property
    def timestamp(self) -> str:
        """When it was made: seconds since the epoch, in decimal digits."""

    @property
    def parent(self) -> int | None:
        """The number of the snapshot before; `None` for a baseline."""

    @property
    def merkle_root(self) -> ContentHash:
        """The Merkle root over paths and contents of all files."""

    @property
    def files(self) -> dict[str, FileState]:
        """The state of each file, by its path. Made anew each time it is asked for."""

    @property
    def skipped(self) -> list[tuple[str, _SkipReason]]:
        """What is not in it, or not for certain as it was: paths, and why."""

_SkipReason: TypeAlias = Literal[
    "missing", "unreadable", "special", "vanished", "changed_while_read", "too_deep"
]

@final
class Change:
    """One path that is not the same in two snapshots, or in a snapshot and now."""

    @property
    def path(self) -> str:
        """The path, beneath the tracked path as it was given."""

    @property
    def change_type(self) -> Literal["created", "modified", "deleted", "permissions_changed"]:
        """What became of it; `permissions_changed` is of the mode alone."""

    @property
    def size_delta(self) -> int | None:
        """By how many bytes its content grew; `None` in what a restore tells."""

    @property
    def old_hash(self) -> ContentHash | None:
        """Its content before, if it was a file; `None` for a large one that is not read."""

    @property
    def new_hash(self) -> ContentHash | None:
        """Its content after, if it is a file."""

    @staticmethod
    def _of(
        path: _Path,
        change_type: str,
        size_delta: int | None,
        old_hash: ContentHash | None,
        new_hash: ContentHash | None,
    ) -> Change: ...
    def __reduce__(
        self,
    ) -> tuple[object, tuple[str, str, int | None, ContentHash | None, ContentHash | None]]: ...
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]

@final
class ExclusionConfig:
    """What snapshots leave out.

    A pattern without `/` is the name of a file or directory beneath a tracked path, one with `/` a
    part of the whole path. Globs are for such names. What `force_include` names, by
    patterns as above, is tracked whatever else says not to. `.gitignore` files count at every
    level of a tracked directory, unless `use_gitignore` is false; all of them may have 2 MiB.
    """

    def __new__(
        cls,
        use_gitignore: bool = True,
        exclude_patterns: Sequence[str] = ...,
        exclude_globs: Sequence[str] = ...,
        force_include: Sequence[str] = ...,
    ) -> ExclusionConfig: ...
    @property
    def use_gitignore(self) -> bool:
        """Whether `.gitignore` files count, at every level of a tracked directory."""

    @property
    def exclude_patterns(self) -> list[str]:
        """Names, or parts of paths, that are left out."""

    @property
    def exclude_globs(self) -> list[str]:
        """Globs of the names of files and directories that are left out."""

    @property
    def force_include(self) -> list[str]:
        """Names, or parts of paths, that are tracked whatever else says not to."""

    def __eq__(self, other: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]
    def __reduce__(self) -> tuple[object, tuple[type[object], dict[str, object]]]: ...

_Progress: TypeAlias = Callable[
    [Literal["wait", "scan", "check", "restore"], int, int | None], object
]

@final
class SnapshotManager:
    """Makes snapshots of directories and files, and restores them whole.

    They are kept in `session_dir`, which is made if it is not there. Several managers may use one
    session: they wait for each other. `max_entries` and `max_bytes` bound what is tracked; 0 is no
    bound. What is changed through a shared mapping that was there before may not be seen.

    What makes or restores takes a `progress`, which is called now and then with what is being
    done, how many entries are done, and of how many, if that is known: from threads of the call,
    one at a time. What it raises ends the call; a restore that had begun is completed by calling it
    again. It cannot use the session itself.

    Raises `SnapshotError`; its `diagnostic_code` is `rollback_budget_exceeded`, `no_snapshot`,
    `session_not_found`, `object_damaged`, `manifest_damaged`, `restore_incomplete` or
    `snapshot_failed`.
    """

    def __new__(
        cls,
        session_dir: _OsText,
        tracked_paths: Sequence[_OsText],
        exclusion: ExclusionConfig | None = None,
        max_entries: int = 300_000,
        max_bytes: int = 2_147_483_648,
    ) -> SnapshotManager: ...
    def create_baseline(self, *, progress: _Progress | None = None) -> SnapshotManifest:
        """Make a snapshot that stands for itself.

        The first of a session has the number 0; a later one never takes its place.
        """

    def create_incremental(
        self, *, progress: _Progress | None = None
    ) -> tuple[SnapshotManifest, list[Change]]:
        """Make a snapshot of what has changed since the one before; return it and the changes."""

    def compute_restore_diff(
        self, snapshot_number: int, *, progress: _Progress | None = None
    ) -> list[Change]:
        """Return what restoring a snapshot would change, ordered by path. Change nothing."""

    def restore_to(
        self, snapshot_number: int, *, progress: _Progress | None = None
    ) -> list[Change]:
        """Make what is tracked what it was at a snapshot; return what was changed.

        What is tracked besides, and was not when the snapshot was made, is left alone. A tracked
        path that led elsewhere then is an error, and so is an object that is needed and is missing
        or damaged: nothing is changed in these cases. What cannot be restored is named in an error
        when all else is (`restore_incomplete`).
        """

    def load_manifest(self, number: int) -> SnapshotManifest:
        """Read a snapshot. One that was changed since it was made is refused."""

    def snapshot_count(self) -> int:
        """Return how many snapshots the session has."""

    def save_session_metadata(self, meta: SessionMetadata) -> None:
        """Keep `meta` as the session's."""

    @staticmethod
    def load_session_metadata(session_dir: _OsText) -> SessionMetadata:
        """Read what is kept of the session in `session_dir`."""

    def __enter__(self) -> SnapshotManager: ...
    def __exit__(
        self,
        _exception_type: type[BaseException] | None,
        _exception: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None: ...

@final
class SessionMetadata:
    """What ran, when, on what, and how it went. The JSON is that of the `nono` tools."""

    ended: str | None
    snapshot_count: int
    exit_code: int | None

    def __new__(
        cls, session_id: str, command: Sequence[str], tracked_paths: Sequence[_OsText]
    ) -> SessionMetadata: ...
    @staticmethod
    def from_json(json: str) -> SessionMetadata:
        """Read what `to_json` wrote, or another tool."""

    def to_json(self) -> str:
        """Return the text of `session.json`."""

    @property
    def session_id(self) -> str:
        """What it is called."""

    @property
    def started(self) -> str:
        """When it began: UTC, as RFC 3339 writes it."""

    @property
    def command(self) -> list[str]:
        """The program that ran, and its arguments."""

    @property
    def tracked_paths(self) -> list[str]:
        """What its snapshots are of."""

    @property
    def merkle_roots(self) -> list[ContentHash]:
        """The roots of its snapshots."""

    def add_merkle_root(self, root: ContentHash) -> None:
        """Note the root of one more snapshot."""

    @property
    def executable_identity(self) -> dict[str, str] | None:
        """Which file was executed: its `resolved_path` and `sha256`; `None` if unknown."""

    @property
    def audit_event_count(self) -> int:
        """How many events its log has."""

    @property
    def audit_integrity(self) -> dict[str, Any] | None:
        """What the log of the session comes to; `None` if it has none."""

    @property
    def audit_attestation(self) -> dict[str, str] | None:
        """Who signed the log; `None` if nobody did."""

    @property
    def network_events(self) -> list[dict[str, Any]]:
        """What was asked of the network: dictionaries of the 15 keys of `drain_audit_events`."""

    def set_network_events(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Note what was asked of the network: events as `drain_audit_events` returns them.

        Keys besides the 15 are passed over, and so are words that the format has not, such as
        `not_required` for an `auth_outcome`.
        """

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    @staticmethod
    def _of(json: str, tracked_paths: Sequence[_OsText]) -> SessionMetadata: ...
    def __reduce__(self) -> tuple[object, tuple[str, list[str]]]: ...

@final
class SupportInfo:
    """Whether, and by what, this machine can enforce a sandbox."""

    @property
    def is_supported(self) -> bool:
        """Whether sandboxing is available."""

    @property
    def platform(self) -> str:
        """The platform, for example `linux`."""

    @property
    def details(self) -> str:
        """What is available, or why nothing is."""

    @staticmethod
    def _of(is_supported: bool, platform: str, details: str) -> SupportInfo: ...
    def __reduce__(self) -> tuple[object, tuple[bool, str, str]]: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class DetectedAbi:
    """The version of Landlock that the kernel has, and what it can judge."""

    @property
    def version(self) -> str:
        """The version, for example `V7`."""

    @property
    def has_refer(self) -> bool:
        """Whether it judges renames and links between directories (from 2 on)."""

    @property
    def has_truncate(self) -> bool:
        """Whether it judges truncation (from 3 on)."""

    @property
    def has_execute(self) -> bool:
        """Whether it judges execution."""

    @property
    def has_network(self) -> bool:
        """Whether it judges TCP ports (from 4 on)."""

    @property
    def has_ioctl_dev(self) -> bool:
        """Whether it judges the control of devices (from 5 on)."""

    @property
    def has_scoping(self) -> bool:
        """Whether it judges signals and abstract unix sockets (from 6 on)."""

    @property
    def feature_names(self) -> list[str]:
        """All that it judges, in words."""

    @staticmethod
    def _of(number: int) -> DetectedAbi: ...
    def __reduce__(self) -> tuple[object, tuple[int]]: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Enforcement:
    """What the kernel enforces on a sandboxed process, and what it is too old to enforce."""

    @property
    def landlock_abi(self) -> int:
        """The version of Landlock that is used."""

    @property
    def network(self) -> str:
        """The network limit in force: what all calls of `apply` in this process leave together."""

    @property
    def domains(self) -> int:
        """How many Landlock domains the process consists of.

        One, or one for each thread that was there. Children of different domains cannot signal
        each other.
        """

    @property
    def no_new_privileges(self) -> bool:
        """Whether no program that is executed gives privileges."""

    @property
    def filtered(self) -> bool:
        """Whether the system call filter is in force."""

    @property
    def missing(self) -> list[str]:
        """What a newer kernel would judge and this one lets pass, in words."""

    @property
    def complete(self) -> bool:
        """Whether the kernel judges all that there is to judge: `missing` is empty."""

    @staticmethod
    def _of(json: str) -> Enforcement: ...
    def __reduce__(self) -> tuple[object, tuple[str]]: ...
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]

@final
class Check:
    """What came of one attempt."""

    @property
    def what(self) -> str:
        """What was tried, in words."""

    @property
    def denied(self) -> bool:
        """Whether the kernel refused it."""

    @property
    def errno(self) -> int | None:
        """The error that it was refused with; `None` if it was let through."""

    def __eq__(self, other: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]

@final
class Verification:
    """What a sandbox denies, as a child in it has found out.

    True if all was denied that was tried.
    """

    @property
    def passed(self) -> bool:
        """Whether all was denied that was tried."""

    @property
    def checks(self) -> list[Check]:
        """Every attempt, in the order in which they were made."""

    @property
    def failures(self) -> list[Check]:
        """What was not denied."""

    @property
    def enforcement(self) -> Enforcement:
        """What the kernel enforced meanwhile."""

    def __bool__(self) -> bool: ...
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]

def apply(caps: CapabilitySet) -> Enforcement:
    """Confine this process, all its threads and all their later children.

    There is no way back. If a thread cannot be confined, none is, and the call raises. Where the
    network is limited, a process of its own judges addresses from now on; `os.wait()` does not
    find it. A proxy in this process is confined too: it reaches upstreams at granted ports only. A
    socket that was bound before and does not listen yet listens only at a granted port.
    """

def apply_auto_with_abi(caps: CapabilitySet, abi: DetectedAbi) -> Enforcement:
    """As `apply`, for the kernel that `detect_abi` has found."""

def apply_landlock(caps: CapabilitySet) -> Enforcement:
    """As `apply`: Landlock, and the system call filter for what Landlock does not judge."""

def apply_landlock_with_abi(caps: CapabilitySet, abi: DetectedAbi) -> Enforcement:
    """As `apply_landlock`, for the kernel that `detect_abi` has found."""

def apply_seccomp(caps: CapabilitySet, external_tcp: bool = False) -> Enforcement:
    """As `apply`. With `external_tcp=True` the network stays open, for somebody else to limit."""

def apply_seccomp_with_abi(
    caps: CapabilitySet, abi: DetectedAbi, external_tcp: bool = False
) -> Enforcement:
    """As `apply_seccomp`, for the kernel that `detect_abi` has found."""

def apply_external() -> None:
    """Do nothing: for programs that are confined from outside."""

def apply_unlink_overrides(caps: CapabilitySet) -> None:
    """Let what is granted to write be removed on macOS, whatever a policy's `deny.unlink` says."""

def detect_abi() -> DetectedAbi:
    """Return the version of Landlock that the kernel has."""

def is_supported() -> bool:
    """Return whether sandboxing is available on this machine."""

def support_info() -> SupportInfo:
    """Return what sandboxing this machine offers."""

@type_check_only
class SessionDiagnostic(TypedDict, total=False):
    """One thing known of a program's end, or said by it; all from `hint` on may be absent.

    `detail["kind"]` says where it is from: "supervisor_denial" is of a call that was refused,
    "stderr_observation" is what the program says itself. `grant` is the smallest grant that would
    have let a refused call pass: a program can make one to be refused it, so think.
    """

    code: str
    severity: Literal["info", "warning"]
    message: str
    hint: str
    remediation: dict[str, str]
    path: str
    address: str
    grant: str
    detail: dict[str, str]

@type_check_only
class SessionReport(TypedDict):
    """What is known of a program's end, and what it says of it."""

    exit_code: int
    denials: list[SessionDiagnostic]
    ipc_denials: list[SessionDiagnostic]
    violations: list[SessionDiagnostic]
    diagnostics: list[SessionDiagnostic]

@final
class ExecResult:
    """What became of a program that ran in a sandbox."""

    @property
    def args(self) -> _Words:
        """The command, as it was given."""

    @property
    def stdout(self) -> bytes:
        """What it wrote to standard output, as far as that was collected."""

    @property
    def stderr(self) -> bytes:
        """What it wrote to standard error, as far as that was collected."""

    @property
    def text(self) -> str:
        """Standard output as text: UTF-8, with U+FFFD for what is none."""

    @property
    def exit_code(self) -> int:
        """The exit code; `-N` if signal N ended the program, 124 if its time was over."""

    @property
    def signal(self) -> int | None:
        """The number of the signal that ended the program; `None` if none did."""

    @property
    def timed_out(self) -> bool:
        """Whether the program was killed because its time was over."""

    @property
    def truncated(self) -> bool:
        """Whether it wrote more than `max_output_bytes`, which is not kept."""

    @property
    def duration(self) -> float:
        """From start to end, in seconds."""

    @property
    def cpu_time(self) -> float:
        """Processor time of the program and all its descendants, in seconds."""

    @property
    def max_rss(self) -> int | None:
        """Bytes of memory at the peak.

        Where a control group limits memory (`limits["max_memory_bytes"] == "cgroup"`), that of all
        processes together. Else of the largest, or None if it was smaller than this one: the kernel
        counts what a program and its caller had in common when it began as the program's own, and
        below that it cannot tell.
        """

    @property
    def oom_killed(self) -> bool:
        """Whether all was killed because it used more memory than `max_memory_bytes`.

        Known where a control group limits it; elsewhere a program is refused memory instead.
        """

    @property
    def enforcement(self) -> Enforcement:
        """What the kernel enforced, and what it is too old to enforce."""

    @property
    def session(self) -> SessionMetadata | None:
        """What is kept of the session, as it stands in its directory; None if nothing is."""

    @property
    def limits(self) -> dict[str, Literal["cgroup", "rlimit", "pipe", "ignored for root"]]:
        """By what each limit was enforced, by its name.

        "cgroup" is of the program and all that it starts together, and takes a control group
        (cgroup v2) that is delegated to this process: to a service by `Delegate=yes`, or by
        `systemd-run --user --scope -p Delegate=yes`. "rlimit" is of each process, or for
        `max_processes` of all that its user has.
        """

    @property
    def dropped_env(self) -> list[str]:
        """The variables that `inherit_env` left out, because they steer the dynamic loader."""

    def check(self) -> ExecResult:
        """Return this if the program exited with 0.

        Raises `subprocess.CalledProcessError` otherwise, or `subprocess.TimeoutExpired`.
        """

    def session_diagnostics(self) -> SessionReport:
        """Return why the program may have failed.

        What it says itself is marked by `detail` as a `stderr_observation`: a hint, which never
        proposes a grant.
        """

    def session_diagnostics_json(self) -> str:
        """Return `session_diagnostics()` as JSON."""

    @staticmethod
    def _of(
        call: tuple[Any, float | None],
        outputs: Sequence[bytes],
        session: SessionMetadata | None,
        json: str,
    ) -> ExecResult: ...
    def __reduce__(self) -> tuple[object, tuple[Any, list[bytes], SessionMetadata | None, str]]: ...

def build_session_diagnostic_report(exit_code: int) -> SessionReport:
    """Return what is to be said of an exit code, as `ExecResult.session_diagnostics` says it."""

def merge_diagnostic_report_json(
    session_report_json: str, proxy_diagnostics_json: str | None = None
) -> dict[str, Any]:
    """Return a session's report as `session`, and one of its proxy, if there is one, as `proxy`.

    Raise `ConfigurationError` if one of them is no JSON.
    """

@type_check_only
class _Options(TypedDict, total=False):
    cwd: _OsText | None
    timeout_secs: float | None
    env: _Environment | None
    inherit_env: bool
    max_processes: int | None
    max_cpu_seconds: int | None
    max_file_size_bytes: int | None
    max_open_files: int | None
    uid: int | None
    gid: int | None
    enforcement_mode: Literal["auto", "landlock", "seccomp"]
    max_memory_bytes: int | None
    max_output_bytes: int | None
    input: str | _Buffer | None
    stdin: _Stream | None
    stdout: _Stream | None
    stderr: _Stream | None
    proxy: ProxyHandle | None
    pty: bool | tuple[int, int] | None
    keep_background: bool
    verify: bool
    require_limits: bool
    session: _OsText | SnapshotManager | None

def sandboxed_exec(
    caps: CapabilitySet,
    command: _Words,
    cwd: _OsText | None = None,
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
    *,
    max_memory_bytes: int | None = None,
    max_output_bytes: int | None = None,
    input: str | _Buffer | None = None,  # noqa: A002 - as `subprocess` has it
    stdin: _Stream | None = None,
    stdout: _Stream | None = None,
    stderr: _Stream | None = None,
    proxy: ProxyHandle | None = None,
    pty: bool | tuple[int, int] | None = None,
    keep_background: bool = False,
    verify: bool = False,
    require_limits: bool = False,
    session: _OsText | SnapshotManager | None = None,
) -> ExecResult:
    """Run a program that can touch only what `caps` grants, and wait for its end.

    `stdin`, `stdout` and `stderr` are as in `subprocess`. `pty` gives the program a terminal of its
    own, of 24 rows and 80 columns or as said. `proxy` leads it through a proxy, as
    `caps.proxy_only(proxy)` does: all other network access is denied, and this one is granted also
    where `caps` blocks the network; so is reading the proxy's certificates. What it leaves running
    is killed when it ends, but for `keep_background`.
    With `verify`, the sandbox is tried first by `caps.verify()`, and nothing runs if it fails. With
    `require_limits`, a limit that the kernel would not hold is an error, and nothing runs; one of
    memory that holds for each process alone, as `result.limits` says, is none.
    `session` keeps a record of the run in a directory of its own: `session.json`, and a log that
    `audit.verify_log` checks. It has which file was executed and with which arguments (as they are,
    but for the token of `proxy`), never the environment; what `proxy` was asked for, what the
    sandbox refused, how it ended, and the snapshots that a `SnapshotManager` has made there, which
    may stand in place of the directory. A directory holds the record of one run; the program must
    have no way to write to it.
    """

@final
class _Command:
    def __new__(cls, *args: Any, **options: Any) -> _Command: ...
    @staticmethod
    def _called(name: str, args: tuple[Any, ...], options: Mapping[str, Any]) -> _Command: ...
    def run(self) -> ExecResult: ...
    def start(self) -> _Run: ...
    def spawn(self) -> _Child: ...

def _observe(
    command: _Command,
) -> tuple[ExecResult, list[tuple[str, str | None, tuple[str, int] | None]]]: ...

@final
class _Run:
    def fds(self) -> list[int]: ...
    def patience(self) -> float | None: ...
    def advance(self) -> ExecResult | None: ...
    def cancel(self) -> None: ...
    def close(self) -> None: ...

@final
class _Child:
    @property
    def pid(self) -> int: ...
    def take_streams(self) -> tuple[int | None, int | None, int | None]: ...
    def begun_fd(self) -> int | None: ...
    def patience(self) -> float | None: ...
    def try_begun(self) -> bool: ...
    def ended_fd(self) -> int | None: ...
    def wait(self) -> ExecResult: ...
    def send_signal(self, signal: int) -> None: ...
    def kill(self) -> None: ...
    def close(self) -> None: ...

@final
class VaultConfig:
    """The Vault server that a `vault://mount/path#field` reference is of.

    `token_key` is a credential reference to the token that it is asked with. `tls_ca` is a file of
    certificates that its own is trusted by, besides the system's.
    """

    def __new__(
        cls,
        address: str,
        token_key: str,
        namespace: str | None = None,
        *,
        tls_ca: _Path | None = None,
    ) -> VaultConfig: ...
    @property
    def address(self) -> str:
        """Its URL: https; plain http only on this machine."""

    @property
    def token_key(self) -> str:
        """Where the token is kept that it is asked with."""

    @property
    def namespace(self) -> str | None:
        """The namespace of the secret, where the server has them."""

    @property
    def tls_ca(self) -> str | None:
        """Certificate authorities to trust for it besides the system's, as a PEM file."""

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[object, tuple[type[VaultConfig], dict[str, Any]]]: ...

@final
class OAuth2Config:
    """An OAuth 2.0 token endpoint, and the right to get tokens from it.

    `client_secret` and `refresh_token` are credential references, and `client_id` may be one. With
    a `refresh_token` that is the grant, and else the client's own credentials are; one that the
    issuer replaces is used from memory, until the issuer refuses it or another is kept there.
    `tls_ca` is a file of certificates that the issuer's is trusted by, besides the system's.
    """

    def __new__(
        cls,
        token_url: str,
        client_id: str,
        client_secret: str | None = None,
        *,
        refresh_token: str | None = None,
        scope: str | None = None,
        extra_params: _Pairs = ...,
        secret_in_body: bool = False,
        tls_ca: _Path | None = None,
    ) -> OAuth2Config: ...
    @property
    def token_url(self) -> str:
        """The token endpoint: an https URL; plain http only on this machine."""

    @property
    def client_id(self) -> str:
        """The client's name, or where it is kept."""

    @property
    def client_secret(self) -> str | None:
        """Where the client's secret is kept; public clients have none."""

    @property
    def refresh_token(self) -> str | None:
        """Where the refresh token is kept, if that is the grant."""

    @property
    def scope(self) -> str | None:
        """What the token is to be for, in the issuer's words."""

    @property
    def extra_params(self) -> list[tuple[str, str]]:
        """Further parameters of the request, as `audience`."""

    @property
    def secret_in_body(self) -> bool:
        """Whether the client's secret goes into the body and not into `Authorization`."""

    @property
    def tls_ca(self) -> str | None:
        """Certificate authorities to trust for it besides the system's, as a PEM file."""

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[object, tuple[type[OAuth2Config], dict[str, Any]]]: ...

@final
class RouteConfig:
    """A path prefix of the proxy, the upstream it leads to, and the credential put on the way.

    The credential is kept where `credential_key` says (a name in the keyring, `keyring://`,
    `env://`, `file://`, `op://`, `bw://`, `cmd://` with `credential_command`, `vault://` with
    `vault`), or is got by `oauth2`, or given as `credential`: a value, or a function or coroutine
    function that returns one, or one and its expiry (a `datetime` with a time zone, or a
    `timedelta` or seconds from now). The function is called on a thread of its own, and again
    before the value expires.
    """

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
        credential: _Credential | None = None,
        credential_command: Sequence[str] | None = None,
        credential_ttl_secs: float | None = None,
        oauth2: OAuth2Config | None = None,
        vault: VaultConfig | None = None,
        extra_headers: _Pairs = ...,
        scrub_bodies: bool = True,
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
        credential: _Credential | None = ...,
        credential_command: Sequence[str] | None = ...,
        credential_ttl_secs: float | None = ...,
        oauth2: OAuth2Config | None = ...,
        vault: VaultConfig | None = ...,
        extra_headers: _Pairs = ...,
        scrub_bodies: bool = ...,
    ) -> RouteConfig:
        """Return the route to a well-known API, with what its SDKs call their variables.

        What is given beside the name wins over the preset. `azure-openai` needs `upstream`: the
        endpoint of the resource. With `credential_key=None` the client brings its own key, unless
        `credential` or `oauth2` is given.
        """

    @property
    def prefix(self) -> str:
        """The path prefix, of one or more segments: `/openai`."""

    @property
    def upstream(self) -> str:
        """Where it leads: an https URL, with or without a base path.

        Plain http leads to loopback and private addresses only.
        """

    @property
    def credential_key(self) -> str | None:
        """Where its credential is kept; see above."""

    @property
    def credential_command(self) -> list[str]:
        """The program of a `cmd://` reference, and its arguments."""

    @property
    def credential_ttl_secs(self) -> float | None:
        """How long a credential is valid whose source does not say."""

    @property
    def extra_headers(self) -> list[tuple[str, str]]:
        """Headers that go with the credential, which stands where they have `{}`."""

    @property
    def oauth2(self) -> OAuth2Config | None:
        """The token endpoint that gives the credential, instead of `credential_key`."""

    @property
    def vault(self) -> VaultConfig | None:
        """The Vault server of a `vault://` reference."""

    @property
    def inject_mode(self) -> InjectMode:
        """Where the credential goes on a request."""

    @property
    def inject_header(self) -> str:
        """The header that it goes into, for `HEADER` and `BASIC_AUTH`."""

    @property
    def credential_format(self) -> str | None:
        """The header's value with `{}` in the credential's place, for `HEADER`.

        By default `Bearer {}` in `Authorization`, and the credential alone in other headers.
        """

    @property
    def path_pattern(self) -> str | None:
        """What clients send in the path, with `{}` in the token's place, for `URL_PATH`."""

    @property
    def path_replacement(self) -> str | None:
        """What the upstream gets for `path_pattern`; by default the same."""

    @property
    def query_param_name(self) -> str | None:
        """The query parameter that it goes into, for `QUERY_PARAM`."""

    @property
    def env_var(self) -> str | None:
        """A variable that holds what stands for the key, besides `PREFIX_API_KEY`."""

    @property
    def endpoint_rules(self) -> list[tuple[str, str]]:
        """Methods and paths of which a request must match one; without any, all may pass.

        A path is what follows the prefix. `*` stays within one of its segments and `**` does not;
        neither stands for nothing. `{a,b}` stands for two paths, `?` for one character, and
        `[ab]` and `[!a-z]` for one of a class. The method `*` is any.
        """

    @property
    def tls_ca(self) -> str | None:
        """Certificate authorities to trust for it besides the system's, as a PEM file."""

    @property
    def tls_client_cert(self) -> str | None:
        """The certificate to show to the upstream, as a PEM file; needs `tls_client_key`."""

    @property
    def tls_client_key(self) -> str | None:
        """The file of that certificate's private key, as PEM."""

    @property
    def base_url_vars(self) -> list[str]:
        """Variables that hold the base URL, besides `PREFIX_BASE_URL`."""

    @property
    def key_vars(self) -> list[str]:
        """Variables that hold what stands for the key, besides `PREFIX_API_KEY`."""

    @property
    def strip_client_credentials(self) -> bool:
        """Whether a credential of the client's own is removed, rather than refused."""

    @property
    def scrub_bodies(self) -> bool:
        """Whether the credential is taken out of bodies that echo it.

        That may hold an upstream's words back for a second or two where no line ends. Headers are
        always looked at.
        """
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __copy__(self) -> RouteConfig: ...
    def __deepcopy__(self, memo: object, /) -> RouteConfig: ...
    def __reduce__(self) -> tuple[object, tuple[type[RouteConfig], dict[str, Any]]]: ...

def _store_credential(reference: str, key: bytes) -> None: ...
def _check_credential(reference: str, timeout: float) -> None: ...
def _list_credentials() -> list[str]: ...

@final
class ExternalProxyConfig:
    """A proxy between this one and the world.

    It looks names up itself: which addresses they may lead to, those of metadata services among
    them, is for its own rules to say. What is on this machine (`localhost` and loopback addresses)
    is reached without it.
    """

    def __new__(
        cls,
        address: str,
        bypass_hosts: Sequence[str] = ...,
        credential_key: str | None = None,
        tls_ca: _Path | None = None,
    ) -> ExternalProxyConfig: ...
    @property
    def address(self) -> str:
        """Where it listens: `host:port`, or a URL: `https` to speak TLS to it."""
    @property
    def tls_ca(self) -> Path | None:
        """Certificate authorities to trust for it besides the system's, as a PEM file."""
    @property
    def bypass_hosts(self) -> list[str]:
        """Hosts that are looked up here and reached without it."""
    @property
    def credential_key(self) -> str | None:
        """Where its credentials are kept, as `user:password`."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[object, tuple[type[ExternalProxyConfig], dict[str, Any]]]: ...

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
        credential_timeout_secs: float = 30.0,
        audit_disk_bytes: int = 1_073_741_824,
        audit_overflow: Literal["refuse", "count"] = "refuse",
        audit_file: _Path | None = None,
        audit_file_max_bytes: int = 67_108_864,
        audit_file_keep: int = 0,
        metrics_addr: str | None = None,
        intercept_hosts: Sequence[str] = ...,
        intercept_exclude: Sequence[str] = ...,
        intercept_name_constraints: bool = False,
        intercept_ca_cert: _Path | None = None,
        intercept_ca_key: _Path | None = None,
        otlp_endpoint: str | None = None,
        otlp_headers: _Pairs = ...,
        otlp_credential_key: str | None = None,
        otlp_tls_ca: _Path | None = None,
        otlp_service_name: str | None = None,
        otlp_resource_attributes: _Pairs = ...,
        otlp_timeout_secs: float | None = None,
        otlp_flush_secs: float | None = None,
        otlp_compression: Literal["gzip", "none"] | None = None,
        otlp_queue_dir: _Path | None = None,
        otlp_queue_bytes: int | None = None,
    ) -> ProxyConfig: ...
    @property
    def allowed_hosts(self) -> list[str]:
        """Hosts that clients may reach by tunnels and forwarded requests; none by default.

        Each is a name, an IP address or `*.example.com`, which stands for all names below
        `example.com`, and may have a `:port`; without one, any port may be reached. Loopback and
        private addresses are reached only where they, or their very name, stand here; those of
        metadata services never are. Routes need no entry.
        """

    @property
    def allow_all_hosts(self) -> bool:
        """Whether every host with a public address may be reached, but for `denied_hosts`."""

    @property
    def routes(self) -> list[RouteConfig]:
        """Path prefixes that lead to upstreams, with a credential put on the way."""

    @property
    def external_proxy(self) -> ExternalProxyConfig | None:
        """The proxy through which the world is reached; directly if there is none."""

    @property
    def bind_addr(self) -> str:
        """The IP address to listen at, or `localhost`."""

    @property
    def bind_port(self) -> int:
        """The port to listen at; 0 takes a free one."""

    @property
    def max_connections(self) -> int:
        """How many requests and tunnels may run at once; more are answered 503.

        0 is without limit.
        """

    @property
    def credential_timeout_secs(self) -> float:
        """How long the source of a credential may take; the start waits as long at most."""

    @property
    def max_client_connections(self) -> int:
        """How many client connections may be open; more are answered 503.

        Idle ones count, and those that became tunnels.

        By default 10,000, but at most two in five of the files that the process may open.
        """

    @property
    def intercept_ca_dir(self) -> Path | None:
        """The directory for the files that clients trust an intercepting proxy by.

        With it, `CONNECT` to the upstream of a route ends in the proxy, which shows a certificate
        of its own; the requests inside are governed as all others are. The files are removed when
        the proxy stops, and those of one that was killed when the next one starts there. It must
        be the user's own, and nobody but the user and root may be able to replace it or what is in
        it: whoever can write to a directory above it could.
        """

    @property
    def intercept_parent_ca_pems(self) -> bytes | None:
        """Certificates that intercepting clients trust besides the proxy's own, as PEM."""

    @property
    def intercept_hosts(self) -> list[str]:
        """Hosts that are intercepted besides those of routes; they must be allowed too."""

    @property
    def intercept_exclude(self) -> list[str]:
        """Hosts that are not intercepted, whatever else says so."""

    @property
    def intercept_name_constraints(self) -> bool:
        """Whether the authority is limited to the hosts that can be intercepted."""

    @property
    def intercept_ca_cert(self) -> Path | None:
        """The certificate of the authority that vouches for the proxy, if it makes none itself.

        A PEM file; behind it those of the authorities above it up to the root, if it is none. That
        clients who trust this file believe what it says of the hosts is tried when a proxy starts.
        """

    @property
    def intercept_ca_key(self) -> Path | None:
        """The file of that authority's private key, as PEM, which nobody else may read."""

    @property
    def denied_hosts(self) -> list[str]:
        """Hosts that are refused whatever else allows them.

        An address is refused by any name that leads to it, but for those that `external_proxy`
        looks up.
        """

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
        """How long connecting to an upstream may take, DNS and TLS included.

        It is also how long a request waits for an upstream that has as many under way over HTTP/2
        as it allows at once.
        """

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
        """How many records are held in memory; from half of that on they go to disk."""

    @property
    def audit_disk_bytes(self) -> int:
        """How many bytes of records are held on disk besides; 0 is none.

        None are either where the process may make no temporary file, as after `apply`.
        """

    @property
    def metrics_addr(self) -> str | None:
        """The address of a listener for Prometheus; who can reach it can read the metrics."""

    @property
    def otlp_endpoint(self) -> str | None:
        """The base address of the collector that records are sent to, by OTLP over HTTP.

        Logs go to `/v1/logs` below it, spans to `/v1/traces`. A value of `otlp_headers` with the
        placeholder `{}` gets the credential that is kept at `otlp_credential_key`. Who names a
        collector trusts it: no rule for hosts applies to it, and no external proxy is used.
        """

    @property
    def otlp_headers(self) -> dict[str, str]:
        """The headers that the collector is sent, with `{}` in the credential's place."""

    @property
    def otlp_tls_ca(self) -> Path | None:
        """A PEM file of certificate authorities to trust for it, besides the system's."""

    @property
    def otlp_service_name(self) -> str | None:
        """The name of the service that spans and logs are of; `nono` by default."""

    @property
    def otlp_resource_attributes(self) -> dict[str, str]:
        """What else is said of the service, by the names of the semantic conventions."""

    @property
    def otlp_timeout_secs(self) -> float | None:
        """How long the collector may take to answer; 10 by default."""

    @property
    def otlp_flush_secs(self) -> float | None:
        """How much longer a shutdown waits for what the collector has not yet taken.

        5 by default. `diagnostics()` says what was left.
        """

    @property
    def otlp_compression(self) -> Literal["gzip", "none"] | None:
        """How requests to it are compressed: `gzip` by default."""

    @property
    def otlp_queue_dir(self) -> Path | None:
        """A directory in which records wait for the collector, besides the log's own room.

        They survive the process: the next proxy with this directory delivers what is left, each
        at least once, oldest first. It is made if it is missing; it must be the user's own, as
        `intercept_ca_dir` must, and serves one proxy at a time.
        """

    @property
    def otlp_queue_bytes(self) -> int | None:
        """How many bytes may wait there, at least 1 MiB; 256 MiB by default.

        When it is full, records stay in the log, and `diagnostics()` says so; when that is full
        too, requests are refused or go unrecorded as `audit_overflow` says.
        """

    @property
    def otlp_credential_key(self) -> str | None:
        """Where the collector's credential is kept: a reference like that of a route."""

    @property
    def audit_file(self) -> Path | None:
        """The file that records are written to."""

    @property
    def audit_file_max_bytes(self) -> int:
        """How large the file of records grows before the next one is begun."""

    @property
    def audit_file_keep(self) -> int:
        """How many files of records are kept besides; 0 is all."""

    @property
    def audit_overflow(self) -> Literal["refuse", "count"]:
        """What happens to requests when no record more can be held.

        `refuse` answers them 503. `count` lets them through, and a record of the phase `gap` says
        how many they were.
        """

    @property
    def workers(self) -> int:
        """How many threads serve requests; by default one for each core, at most 4."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[object, tuple[type[ProxyConfig], dict[str, Any]]]: ...

_Mechanism: TypeAlias = Literal[
    "proxy_authorization", "phantom_header", "phantom_path", "phantom_query"
]
_Way: TypeAlias = Literal["connect", "connect_intercept", "external", "reverse"]
_Injection: TypeAlias = Literal["header", "url_path", "query_param", "basic_auth"]
_Outcome: TypeAlias = Literal[
    "complete", "client_abort", "upstream_abort", "timeout", "shutdown", "refused", "running"
]

@type_check_only
class NetworkAuditEvent(TypedDict):
    """What happened in one exchange: a request and its response, a tunnel, or a refusal.

    A tunnel has a further one, of the phase `open`, when it opens.
    """

    timestamp_unix_ms: int
    mode: _Way
    decision: Literal["allow", "deny"]
    target: str
    port: int | None
    method: str | None
    path: str | None
    status: int | None
    reason: str | None
    route_id: str | None
    auth_mechanism: _Mechanism | None
    auth_outcome: Literal["succeeded", "failed", "not_required"] | None
    managed_credential_active: bool | None
    injection_mode: _Injection | None
    denial_category: str | None
    sequence: int
    id: str
    session: str
    phase: Literal["open", "end", "gap"]
    outcome: _Outcome
    duration_ms: float
    time_to_first_byte_ms: float | None
    bytes_in: int
    bytes_out: int
    upstream_addr: str | None
    protocol: Literal["http/1.0", "http/1.1", "h2"] | None
    client: str | None
    rule: str | None
    request_id: str | None
    # What the client named as the parent of its request; only where spans are exported.
    traceparent: str | None
    dropped: int | None

@final
class AuditEvent:
    """What happened in one exchange. Its fields are made only when they are read."""

    @property
    def timestamp_unix_ms(self) -> int:
        """When it began, in milliseconds since the epoch."""

    @property
    def mode(self) -> _Way:
        """How the client reached the proxy.

        `connect` is a tunnel, `external` one through an external proxy, `connect_intercept` one
        that ends in the proxy and what comes in it, and `reverse` a request to a route, or a
        forwarded one (which has no `route_id`).
        """

    @property
    def decision(self) -> Literal["allow", "deny"]:
        """Whether it was let through."""

    @property
    def target(self) -> str:
        """The host that was asked for, and for a route its upstream's; empty if none was named."""

    @property
    def port(self) -> int | None:
        """The port that was asked for."""

    @property
    def method(self) -> str | None:
        """The method of the request."""

    @property
    def path(self) -> str | None:
        """Path and query as the client sent them, without credentials."""

    @property
    def status(self) -> int | None:
        """The status that the client received; `None` if it left before."""

    @property
    def reason(self) -> str | None:
        """Why it was refused or failed, in words."""

    @property
    def route_id(self) -> str | None:
        """The prefix of its route, without slashes around it."""

    @property
    def auth_mechanism(self) -> _Mechanism | None:
        """Where the client showed the session token."""

    @property
    def auth_outcome(self) -> Literal["succeeded", "failed", "not_required"] | None:
        """Whether the session token was right."""

    @property
    def managed_credential_active(self) -> bool | None:
        """Whether the route's credential was put on the request."""

    @property
    def injection_mode(self) -> _Injection | None:
        """Where the route puts its credential."""

    @property
    def denial_category(self) -> str | None:
        """The kind of refusal or failure."""

    @property
    def sequence(self) -> int:
        """Its place among the records of the proxy: 0, 1, 2 and so on, without gaps."""

    @property
    def id(self) -> str:
        """The exchange: a tunnel's records share it, and a refusal's answer has it too."""

    @property
    def session(self) -> str:
        """The run of the proxy, which all its records share."""

    @property
    def phase(self) -> Literal["open", "end", "gap"]:
        """What it tells of: a tunnel's opening, an end, or records that are not held (`gap`)."""

    @property
    def outcome(self) -> _Outcome:
        """How it ended."""

    @property
    def duration_ms(self) -> float:
        """From the head of the request to the end, in milliseconds."""

    @property
    def time_to_first_byte_ms(self) -> float | None:
        """From the head of the request to that of the response, in milliseconds."""

    @property
    def bytes_in(self) -> int:
        """Bytes of body, or in a tunnel, that came from the client."""

    @property
    def bytes_out(self) -> int:
        """Bytes of body, or in a tunnel, that went to the client."""

    @property
    def upstream_addr(self) -> str | None:
        """The address and port that were connected to."""

    @property
    def protocol(self) -> Literal["http/1.0", "http/1.1", "h2"] | None:
        """The version of HTTP that the client spoke."""

    @property
    def client(self) -> str | None:
        """The client's address and port."""

    @property
    def rule(self) -> str | None:
        """The rule, for hosts or endpoints, that decided, as it was written."""

    @property
    def request_id(self) -> str | None:
        """What the client named its request in `X-Request-Id`."""

    @property
    def traceparent(self) -> str | None:
        """What the client named as the parent of its request; only where spans are exported."""

    @property
    def dropped(self) -> int | None:
        """How many records one of the phase `gap` stands for."""

    def to_dict(self) -> NetworkAuditEvent:
        """Return all fields as a dictionary."""

    def to_json(self) -> str:
        """Return all fields as JSON."""

    @staticmethod
    def _of(json: str) -> AuditEvent: ...
    def __reduce__(self) -> tuple[object, tuple[str]]: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class AuditEvents:
    """A consumer of a proxy's records: `for event in ...` and `async for event in ...`.

    Each sees every record once, from the oldest that is held; it ends when the proxy has, or when
    it is closed. One task at a time can wait for its next event, or else threads can. It belongs
    to the process that made it: in a forked child each use is a `ProxyError`, but `close()`, which
    does nothing there.
    """

    @property
    def lag(self) -> int:
        """How many records it has not yet been asked for."""

    def close(self) -> None:
        """Let go of what it has not yet been asked for; it ends, also where a task waits for it.

        In a forked child it does nothing: the consumer is the parent's.
        """

    def __iter__(self) -> AuditEvents: ...
    def __next__(self) -> AuditEvent: ...
    def __aiter__(self) -> AuditEvents: ...
    def __anext__(self) -> Coroutine[object, object, AuditEvent]: ...
    def __enter__(self) -> AuditEvents: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...
    def _poll(self) -> AuditEvent | None: ...
    def _watch(self) -> int | None: ...
    def _unwatch(self) -> None: ...

@type_check_only
class _Verified(TypedDict):
    files: list[Path]
    lines: int
    head: str | None
    fault: tuple[Path, int, str] | None

def _verify_audit(path: _Path) -> _Verified: ...

@type_check_only
class ProxyDiagnostic(TypedDict):
    """What fails requests of a proxy."""

    code: str
    severity: str
    route_prefix: str
    credential_ref: str
    message: str
    hint: str | None

@final
class ProxyHandle:
    """A running proxy.

    It stops at `shutdown()`, at the end of its `with` block, or when dropped.

    It belongs to the process that started it. A forked child can lead programs to it by its address
    and variables; what takes records or asks how it is doing is a `ProxyError` there, and
    `shutdown()` does nothing.
    """

    @property
    def port(self) -> int:
        """The port that the proxy listens on."""

    @property
    def address(self) -> str:
        """Where the proxy listens: `host:port`."""

    @property
    def metrics_url(self) -> str | None:
        """Where metrics can be asked for, in Prometheus's format: `http://host:port/metrics`."""

    def env_vars(self) -> dict[str, str]:
        """Return variables that lead a program's traffic through the proxy."""

    def credential_env_vars(self) -> dict[str, str]:
        """Return variables that lead SDKs to the routes.

        A base URL for each, and what stands for its key.
        """

    def sandbox_env(self, extra_env: _Environment | None = None) -> list[tuple[str, str]]:
        """Return the whole environment for a sandboxed program, sorted by name.

        The proxy's variables win over those of `extra_env`.
        """

    def drain_audit_events(self) -> list[NetworkAuditEvent]:
        """Take the records gathered since the last call, oldest first.

        If the log was full meanwhile, and `audit_file` or a collector has its records, the first is
        of the phase `gap`: it counts what is no longer held, and says where it is.
        """

    def drain_audit_objects(self) -> list[AuditEvent]:
        """Take the records gathered since the last call, as objects."""

    def drain_audit_jsonl(self) -> bytes:
        """Take the records gathered since the last call, as JSON Lines."""

    def audit_events(self) -> AuditEvents:
        """Return a further consumer.

        It sees all records that are held and all that come, each once.
        """

    def active(self) -> list[NetworkAuditEvent]:
        """Return the exchanges that run now, as far as they are known."""

    def diagnostics(self) -> list[ProxyDiagnostic]:
        """Return what fails requests now: credentials that could not be had when last tried.

        And an `audit_file` that cannot be written: its records are held until it can be, and when
        the log is full, requests are refused or go unrecorded as `audit_overflow` says. And how
        many refusals of clients without the token the log has counted and not kept.
        """

    def reload_credentials(self) -> list[ProxyDiagnostic]:
        """Fetch all credentials again, and return what failed, as `diagnostics()` does.

        Requests under way keep what they have; a value that is still valid is kept on failure.
        """

    def diagnostics_json(self) -> str:
        """Return `diagnostics()` as JSON."""

    def shutdown(self, timeout: float = 5.0) -> None:
        """Stop accepting, let what is under way end within `timeout` seconds, cut the rest.

        A further call waits too, and can shorten the time, not lengthen it. Where records go to a
        collector, it then waits until that has all, for `otlp_flush_secs` more at most, which no
        call shortens. In a forked child it does nothing: the proxy is the parent's.
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

@final
class Policy:
    """A parsed policy: named groups of grants, denials and network rules."""

    def to_json(self) -> str:
        """Return the text that this was parsed from."""

    def group_names(self) -> list[str]:
        """Return the names of all groups, sorted."""

    def group_description(self, name: str) -> str | None:
        """Return what a group is for; `None` if there is none of this name."""

    def required_groups(self) -> list[str]:
        """Return the names of the groups that hold whatever else is chosen, on this platform."""

    def resolve_groups(
        self,
        group_names: Sequence[str],
        caps: CapabilitySet,
        *,
        variables: Mapping[str, _OsText] = ...,
    ) -> ResolvedPolicy:
        """Let `caps` hold what the groups grant and deny: all of it or, on an error, none.

        Paths that do not exist are left out, and are in `skipped_paths`: nothing is made here (see
        `make_directories`). A group that blocks the network, or has rules for a proxy, blocks the
        network of `caps`; one that blocks the port which another opens is a `ValueError`.
        `variables` (`HOME`, `TMPDIR`, `XDG_...`) are taken before the environment's.
        """

    def make_directories(
        self, group_names: Sequence[str], *, variables: Mapping[str, _OsText] = ...
    ) -> list[str]:
        """Make the missing directories that the groups let a program write, and return them.

        They are their owner's alone. Only paths that end in `/` are known to be directories.
        """

    def resolve_deny_paths(self, group_names: Sequence[str]) -> list[str]:
        """Return the paths that the groups deny: as written and, if different, without links."""

    def resolve_proxy_config(self, group_names: Sequence[str]) -> ProxyConfig | None:
        """Return what a proxy is to allow; `None` if the groups say nothing that a proxy does.

        Of `max_connections` the smallest number counts. Two groups with different upstream
        proxies, or different routes of one name, are a `ValueError` that names both. What a group
        opens that another blocks is in it all the same: `run` and `explain` refuse such groups.
        """

    def resolve_limits(self, group_names: Sequence[str]) -> dict[str, int]:
        """Return the limits of a run under these groups: of each the smallest.

        They have the names of `sandboxed_exec`'s arguments.
        """

    def validate_group_exclusions(self, excluded_groups: Sequence[str]) -> None:
        """Raise `ValueError` if one of `excluded_groups` is a required group."""

    def _host_rules(self, names: Sequence[str]) -> list[tuple[str, str, str]]: ...
    def _routes(self, names: Sequence[str]) -> list[tuple[str, str, RouteConfig]]: ...
    def _check_blocking(self, names: Sequence[str]) -> None: ...
    def _blocking_groups(self, names: Sequence[str]) -> list[str]: ...
    def _port_rules(self, names: Sequence[str]) -> list[tuple[str, str, int]]: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __copy__(self) -> Policy: ...
    def __deepcopy__(self, memo: object, /) -> Policy: ...
    def __reduce__(self) -> tuple[object, tuple[str]]: ...

@final
class ResolvedPolicy:
    """What choosing groups has come to."""

    @property
    def names(self) -> list[str]:
        """The chosen groups that are for this platform, as often as they were named."""

    @property
    def deny_paths(self) -> list[str]:
        """The denied paths: as written and, where that differs, without symbolic links."""

    @property
    def skipped_paths(self) -> list[str]:
        """The paths that were to be granted and do not exist here."""

    @property
    def needs_unlink_overrides(self) -> bool:
        """Whether a group asks for `apply_unlink_overrides`, on macOS."""

    @property
    def _rules(self) -> list[tuple[str, str, str, str]]: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __copy__(self) -> ResolvedPolicy: ...
    def __deepcopy__(self, memo: object, /) -> ResolvedPolicy: ...

def load_policy(json: str) -> Policy:
    """Parse a policy.

    Raise `ValueError` with line, column and place, and for a name that is not known the nearest.
    """

def load_embedded_policy() -> Policy:
    """Return the policy that comes with this package."""

def embedded_policy_json() -> str:
    """Return the text of the policy that comes with this package."""

def policy_schema_json() -> str:
    """Return the JSON Schema (draft 2020-12) of policies."""

def validate_deny_overlaps(deny_paths: Sequence[_Path], caps: CapabilitySet) -> None:
    """Raise `RuntimeError` if `caps` reaches what is to be denied.

    From above, at the path itself, or beneath it; through links and `..`, whoever granted it, be it
    for unix sockets. A path that `caps` itself denies is kept out of grants to read above it, and
    passes there. One that leads nobody can say where does not pass.
    """

def _refusals() -> list[tuple[int, str, str, str, str | None]]: ...

@final
class _Judge:
    def __new__(cls, config: ProxyConfig) -> _Judge: ...
    def host(self, host: str, port: int) -> tuple[str | None, str | None, str | None]: ...
    def endpoint(self, method: str, path: str) -> tuple[str | None, str | None, str | None]: ...

def _audit_model(name: str, text: str) -> str:
    """Check what the model `name` is made of, and put it into the form of the format."""

@final
class _SessionLog:
    """How far a log has come. It never changes: an event makes another one."""

    def __new__(cls) -> _SessionLog: ...
    @property
    def sequence(self) -> int: ...
    @property
    def chain_head(self) -> str | None: ...
    def then(self, event: str) -> tuple[str, _SessionLog]:
        """Return the line of an event, and the log behind it."""

    def integrity(self) -> str:
        """Return what it comes to, as JSON; `null` if it is empty."""

@final
class _SigningKey:
    """A private key. It shows nothing of itself."""

    def __new__(cls, key: bytes | str, password: bytes | None) -> _SigningKey: ...
    @property
    def key_id(self) -> str:
        """The name of it."""

    def sign(self, metadata: str, redaction_policy: str | None) -> tuple[str, str]:
        """Sign a session. Returns the bundle, and what the session keeps of it as JSON."""

    def sign_into(self, session_dir: _OsText, metadata: str, redaction_policy: str | None) -> str:
        """Sign a session into its directory. Returns what the session keeps of it as JSON."""

def _check_session_id(session_id: str) -> None: ...
def _dsse_pae(payload_type: str, payload: bytes) -> bytes: ...
def _inclusion_proof(leaves: Sequence[str | bytes], leaf_index: int) -> str: ...
def _ledger_record(metadata: str, sequence: int, previous_chain: str | bytes | None) -> str: ...
def _session_digest(metadata: str) -> str: ...
def _verify_bundle(bundle: str, metadata: str, expected_public_key: bytes | str | None) -> str: ...
def _verify_bundle_in(
    session_dir: _OsText, metadata: str, expected_public_key: bytes | str | None
) -> str: ...
def _verify_inclusion_proof(proof: str, expected_root: str | None) -> bool:
    """Whether `proof`, as JSON, is one, and of `expected_root` if that is given."""

def _verify_ledger(ledger: _OsText, metadata: str, expected_head: str | bytes | None) -> str: ...
def _verify_log(session_dir: _OsText, stored: str | None) -> str: ...
