"""Keeps what an agent has put into the working directory from being taken for a module.

`python -m nono_py` looks there first for every module that is imported, outside of any sandbox. So
it is left out as soon as this package runs. What finds the package, and a whole `nono_py` in its
place, have been taken by then: so a command that may write there is not run at all (`_commands`).
"""

import os
import sys


def _leave_out() -> str | None:
    """Look for modules elsewhere than in the working directory, if `-m nono_py` put it first."""
    # What it says until the module is found.
    if sys.argv[:1] != ["-m"] or getattr(sys.flags, "safe_path", False) or not sys.path:
        return None
    # The option's argument, which may be written with it.
    named = sys.orig_argv[-len(sys.argv)].partition(".")[0]
    is_own = named == "nono_py" or (named.startswith("-") and named.endswith("mnono_py"))
    try:
        place = os.getcwd()  # noqa: PTH109 - one import less
    except OSError:
        return None
    if not is_own or sys.path[0] != place:
        return None
    del sys.path[0]
    return place


#: The directory that was left out.
PLACE = _leave_out()
#: How this package is started by itself; before Python 3.11, the above is all that there is.
COMMAND = [sys.executable, *(["-P"] if sys.version_info >= (3, 11) else []), "-m", "nono_py"]
