"""Code that a stranger wrote runs with a directory, Python, and nothing else."""

import sys
import tempfile
from pathlib import Path

from nono_py import AccessMode, CapabilitySet, ProxyConfig, sandboxed_exec, start_proxy

CODE = """
import os, pathlib, socket
pathlib.Path("answer").write_text(str(6 * 7))
attempts = {
    "read a file of yours": lambda: open("/etc/passwd").read(),
    "connect to somebody": lambda: socket.create_connection(("192.0.2.1", 443), timeout=5),
    "see your variables": lambda: os.environ["SECRET_OF_MINE"],
    "signal your process": lambda: os.kill(os.getppid(), 0),
}
for what, attempt in attempts.items():
    try:
        attempt()
        print("could", what)
    except (OSError, KeyError) as error:
        print("could not", what, "-", type(error).__name__)
"""

with tempfile.TemporaryDirectory() as work, start_proxy(ProxyConfig()) as proxy:
    caps = CapabilitySet()
    caps.allow_interpreter()
    caps.allow_path(work, AccessMode.READ_WRITE)
    result = sandboxed_exec(
        caps,
        [sys.executable, "-c", CODE],
        cwd=work,
        proxy=proxy,  # which lets through no host at all here
        timeout_secs=60,
        max_memory_bytes=2**30,
        max_output_bytes=2**20,
    )
    print(result.text, end="")
    print("its answer:", Path(work, "answer").read_text())
    print(f"{result.duration:.2f} s, {result.cpu_time:.2f} s of a processor")
