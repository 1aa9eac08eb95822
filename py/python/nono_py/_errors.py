"""The exceptions of the package: one tree, each beneath the built-in type that says the same.

Whoever wants all of them catches `NonoError`; whoever knows only Python's own types catches
`ValueError`, `RuntimeError`, `FileNotFoundError` and so on, as ever.
"""

# What type checkers take for `typing.TYPE_CHECKING`, which costs an import.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_py._nono_py import ExecResult


class NonoError(Exception):
    """Whatever this package raises of its own."""

    #: A stable word for what is wrong, for programs.
    diagnostic_code: str = "other"
    #: What could be done about it: its `kind`, and what that needs; `None` if nothing is known.
    remediation: "dict[str, str] | None" = None


class ConfigurationError(NonoError, ValueError):
    """A value that cannot be meant: an argument, a configuration, a state."""


class PolicyError(ConfigurationError):
    """A policy, or a choice of its groups, that cannot be taken."""

    diagnostic_code = "configuration_error"
    #: Where in the text the mistake is, counted from 1; `None` if it is in no one place.
    line: "int | None" = None
    column: "int | None" = None


class PathError(NonoError, OSError):
    """A path that cannot be used; `errno` and `filename` say which and why."""


class PathNotFoundError(PathError, FileNotFoundError):
    """A path that is not there."""


class PathExistsError(PathError, FileExistsError):
    """A path where something is already that is kept."""


class PathPermissionError(PathError, PermissionError):
    """A path that may not be reached."""


class PathNotADirectoryError(PathError, NotADirectoryError):
    """A path that leads through something that is no directory."""


class SandboxError(NonoError, RuntimeError):
    """A sandbox that could not be entered or run in, or would not hold."""

    #: What the system says of a program that cannot be executed or is not there, and of which
    #: one; else `None`.
    errno: "int | None" = None
    filename: "str | None" = None
    #: What became of a program that ran, where it is its record that failed; else `None`.
    result: "ExecResult | None" = None


class SnapshotError(NonoError, RuntimeError):
    """A snapshot that could not be made, read or restored."""


class ProxyError(NonoError, RuntimeError):
    """A proxy that could not start, has ended, or belongs to another process."""


class VerificationError(NonoError):
    """A log, a ledger or a signature that is not what it should be."""

    diagnostic_code = "verification_failed"


class CredentialError(NonoError, RuntimeError):
    """A credential that could not be had."""


class CredentialNotFoundError(NonoError, LookupError):
    """A credential that is not where it was said to be."""


class UnsupportedError(NonoError, NotImplementedError):
    """What could be meant, but cannot be done: by this version, or on this machine."""


def _place() -> None:
    """Let them be found where users find them, and `pickle` too."""
    for item in list(globals().values()):
        if isinstance(item, type):
            item.__module__ = "nono_py"


_place()
# Where programs for the `nono` tools find it.
VerificationError.__module__ = "nono_py.audit"
