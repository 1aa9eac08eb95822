"""What a Python program needs to start, as capabilities. No more than that."""

import os
import site
import sys
import sysconfig
from pathlib import Path

from nono_py import AccessMode, CapabilitySet

#: The system's libraries, and what they read when they are loaded.
_SYSTEM_DIRECTORIES = ("/usr", "/bin", "/lib", "/lib64", "/etc/ssl", "/etc/pki/tls")
_SYSTEM_FILES = ("/etc/ld.so.cache", "/dev/urandom")
_DEVICE_FILES = ("/dev/null",)


def interpreter() -> CapabilitySet:
    """Return capabilities that let this interpreter run with all its packages, read-only."""
    caps = CapabilitySet()
    for directory in _without_nested(_directories()):
        caps.allow_path(directory, AccessMode.READ)
    for file in filter(os.path.exists, _SYSTEM_FILES):
        caps.allow_file(file, AccessMode.READ)
    for file in filter(os.path.exists, _DEVICE_FILES):
        caps.allow_file(file, AccessMode.READ_WRITE)
    return caps


def _directories() -> set[Path]:
    # The real path also: an environment's `python` is a link into the installation it was made of.
    own = [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix]
    own += [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
    own += [*site.getsitepackages(), str(Path(sys.executable).resolve().parent)]
    # The package itself may be installed in editable form, that is: be anywhere.
    own.append(str(Path(__file__).parents[1]))
    paths = (Path(path).resolve() for path in (*own, *_SYSTEM_DIRECTORIES))
    return {path for path in paths if path.is_dir()}


def _without_nested(paths: set[Path]) -> list[Path]:
    return sorted(path for path in paths if not paths.intersection(path.parents))
