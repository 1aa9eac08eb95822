"""The examples of the guide, as they are written there."""

import os
import subprocess
import sys
from pathlib import Path
from typing import TypeAlias

import pytest

EXAMPLES = Path(__file__).parent / "examples"
#: What the example of the proxy takes for granted.
CAPS = """
from nono_py import AccessMode, CapabilitySet
caps = CapabilitySet()
caps.allow_interpreter()
caps.allow_path(".", AccessMode.READ)
"""

Done: TypeAlias = "subprocess.CompletedProcess[str]"


def source(name: str) -> str:
    return (EXAMPLES / name).read_text()


def run(program: str, cwd: Path | None = None) -> Done:
    """Run an example in a process of its own, since there is no way out of a sandbox."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command, env = [sys.executable, "-c", program], {**os.environ, "PATH": path}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd, env=env)


@pytest.mark.parametrize("name", ["is_supported.py", "check_support.py", "require_sandbox.py"])
def test_support(name: str) -> None:
    done = run(source(name))
    assert (done.returncode, done.stderr) == (0, "")


def test_support_info() -> None:
    done = run(source("support_info.py"))
    lines = done.stdout.splitlines()
    assert lines[:2] == ["Platform: linux", "Supported: True"]
    assert lines[2].startswith("Details: Landlock")


def test_apply() -> None:
    done = run(source("apply.py"))
    # The last line of the example is meant to fail.
    assert done.stderr.splitlines()[-1].startswith("PermissionError: [Errno 13]")
    assert "/etc/passwd" in done.stderr
    assert Path("/tmp/test.txt").read_text() == "Hello"


def test_apply_with_error_handling() -> None:
    done = run(source("error_handling.py"))
    assert (done.stdout, done.returncode) == ("Sandbox applied successfully\n", 0)


def test_steps(tmp_path: Path) -> None:
    # The directory of the example is somebody else's home.
    done = run(source("steps.py").replace("/home/user/data", str(tmp_path)))
    expected = "Sandbox applied successfully!\nAccess denied (expected)\n"
    assert (done.stdout, done.returncode) == (expected, 0), done.stderr


def test_complete_example() -> None:
    done = run(source("complete.py"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "Capabilities:\nFilesystem:\n  /tmp [read+write] (dir)\nNetwork:\n  outbound: blocked\n"
        "\nSandbox applied!\n\nWrote to /tmp/nono_test.txt\nRead: Hello from sandbox!\n"
        "Blocked access to /etc/passwd (expected)\n"
    )


def test_start_proxy(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text("import os; print(sorted(os.environ))")
    show = "print(result.stdout.decode(), events)"
    done = run(CAPS + source("start_proxy.py") + show, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "'HTTPS_PROXY'" in done.stdout
    assert "'OPENAI_BASE_URL'" in done.stdout


def test_policies() -> None:
    expected = {
        "load_policy.py": "['offline', 'proxy_web']\n['example.com']\n",
        "load_embedded_policy.py": "True\n",
        "import_all.py": "",
    }
    for name, printed in expected.items():
        done = run(source(name))
        assert (done.stdout, done.stderr) == (printed, "")
    assert run(source("embedded_policy_json.py")).stdout.startswith("{")


def test_all_type_check(tmp_path: Path) -> None:
    for example in EXAMPLES.iterdir():
        needs = CAPS if example.name == "start_proxy.py" else ""
        (tmp_path / example.name).write_text(needs + example.read_text())
    command = [sys.executable, "-m", "mypy", "--config-file=", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
