"""Where the running Python keeps what it needs: called by `CapabilitySet.allow_interpreter`."""

import contextlib
import os
import pwd
import site
import sys
import sysconfig
from pathlib import Path

#: What is shared with all that is not Python's. Never granted, wherever `sys.path` leads.
SHARED = (
    "/",
    "/home",
    "/root",
    "/Users",
    "/tmp",  # noqa: S108 (named to be left out)
    "/var",
    "/var/tmp",  # noqa: S108
    "/run",
    "/etc",
    "/opt",
    "/srv",
    "/mnt",
)

#: Where each directory is somebody's home.
HOMES = frozenset(Path(path).resolve() for path in ("/home", "/Users"))


def paths() -> list[str]:
    """Return the directories and files that imports, tracebacks and new interpreters read."""
    own = [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix]
    own += sysconfig.get_paths().values()
    own += site.getsitepackages()
    # Embedded, it may have no program. Resolved, that would be in the working directory.
    if sys.executable:
        # The real path also: an environment's `python` is a link into the installation it was made
        # of.
        own += [sys.executable, str(Path(sys.executable).resolve().parent)]
    # The package itself may be installed in editable form, that is: be anywhere.
    own.append(str(Path(__file__).parent))
    # Where imports look; the empty entry is whatever the working directory happens to be.
    own += sys.path
    found = {Path(path).resolve() for path in own if path and _is_there(path)}
    places = shared()
    left_out = {path for path in found if is_shared(path, places)}
    found -= left_out | {parent for path in left_out for parent in path.parents}
    return sorted(str(path) for path in found if not found.intersection(path.parents))


def _is_there(path: str) -> bool:
    """Whether a path can be looked at: what cannot, no import has read either."""
    try:
        Path(path).stat()
    # A ValueError is of a path with a NUL.
    except (OSError, ValueError):
        return False
    return True


def shared() -> set[Path]:
    """Return what is everybody's, and the homes of whoever this is, with all that is above them."""
    places = {Path(path) for path in SHARED}
    # A container's user may have none.
    with contextlib.suppress(RuntimeError):
        places.add(Path.home().resolve())
    # `HOME` is what somebody says; under `sudo` it is the home of neither.
    for user in {os.getuid(), os.geteuid(), _caller()}:
        places.update(_home(user))
    return places | {parent for path in places for parent in path.parents}


def is_shared(path: Path, places: set[Path]) -> bool:
    """Whether a directory is one of these places, or somebody's home."""
    if path in places or path.parent in HOMES:
        return True
    try:
        owner = path.stat().st_uid
    except OSError:
        return False
    return path in _home(owner)


def _caller() -> int:
    """Return who has called `sudo`, or else whoever this is."""
    try:
        return int(os.environ["SUDO_UID"])
    except (KeyError, ValueError):
        return os.getuid()


def _home(user: int) -> frozenset[Path]:
    """Return a user's home, if it is the user's: `daemon` has `/usr/sbin` for one."""
    try:
        home = Path(pwd.getpwuid(user).pw_dir).resolve()
        return frozenset({home} if home.stat().st_uid == user else ())
    except (KeyError, OSError, OverflowError):
        return frozenset()
