"""`nono-py demo`: an agent uses an API whose key it cannot find.

`run` is the supervisor and reads top-down. It starts `upstream` (an OpenAI-compatible service of
its own on loopback), a proxy with one route to it, and `agent` in a sandbox; `stage` carries the
agent's reports, `judge` knows what each must say, and `report` prints.
"""

import importlib.util
import sys

_REQUIRED = ("openai", "trustme")


def main() -> int:
    """Run the demonstration and return its exit code."""
    if sys.platform != "linux":
        print("The demonstration looks for the key in Linux's /proc, which is not here.")
        return 2
    missing = [name for name in _REQUIRED if importlib.util.find_spec(name) is None]
    if missing:
        command = f"{sys.executable} -m pip install {' '.join(missing)}"
        print(f"The demonstration needs {' and '.join(missing)}. Install with:\n\n    {command}\n")
        return 2
    from nono_py._demo.run import supervise

    return supervise()
