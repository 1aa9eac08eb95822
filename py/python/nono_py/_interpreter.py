"""Where the running Python keeps what it needs: called by `CapabilitySet.allow_interpreter`."""

import contextlib
import site
import sys
import sysconfig
from pathlib import Path

#: What is shared with all that is not Python's. Never granted, wherever `sys.path` leads.
SHARED = (
    "/",
    "/home",
    "/root",
    "/tmp",  # noqa: S108 (named to be left out)
    "/var",
    "/var/tmp",  # noqa: S108
    "/run",
    "/etc",
    "/opt",
    "/srv",
    "/mnt",
)


def paths() -> list[str]:
    """Return the directories and files that imports, tracebacks and new interpreters read."""
    own = [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix]
    own += sysconfig.get_paths().values()
    own += site.getsitepackages()
    # The real path also: an environment's `python` is a link into the installation it was made of.
    own += [sys.executable, str(Path(sys.executable).resolve().parent)]
    # The package itself may be installed in editable form, that is: be anywhere.
    own.append(str(Path(__file__).parent))
    # Where imports look; the empty entry is whatever the working directory happens to be.
    own += sys.path
    found = {Path(path).resolve() for path in own if path and Path(path).exists()}
    shared = {Path(path) for path in SHARED}
    # A container's user may have none.
    with contextlib.suppress(RuntimeError):
        shared.add(Path.home().resolve())
    found -= shared | {parent for path in shared for parent in path.parents}
    return sorted(str(path) for path in found if not found.intersection(path.parents))
