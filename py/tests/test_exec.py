"""`sandboxed_exec` and `ExecResult`."""

import copy
import errno
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import pytest
from nono_py import AccessMode, CapabilitySet, SandboxError, sandboxed_exec


def python(source: str) -> list[str]:
    return [sys.executable, "-c", source]


def test_output_and_exit_code(caps: CapabilitySet) -> None:
    source = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)"
    result = sandboxed_exec(caps, python(source))
    assert (result.stdout, result.stderr, result.exit_code) == (b"out\n", b"err\n", 7)
    assert (result.timed_out, result.truncated) == (False, False)
    assert 0 < result.duration < 60
    assert repr(result) == "ExecResult(exit_code=7, stdout_len=4, stderr_len=4)"


def facts(value: object) -> dict[str, object]:
    """Return all that a value tells without being called."""
    names = [name for name in dir(value) if not name.startswith("_")]
    return {name: told for name in names if not callable(told := getattr(value, name))}


def test_a_result_is_a_value_that_other_processes_can_return(
    caps: CapabilitySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = python("import sys; print('out'); sys.exit('No module named x')")
    # In another process: so the result comes by way of `pickle`.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        sent = pool.submit(sandboxed_exec, caps, command, session=tmp_path / "s", timeout_secs=60)
        result = sent.result(60)
    assert (result.args, result.stdout, result.exit_code) == (command, b"out\n", 1)
    with pytest.raises(subprocess.CalledProcessError):
        result.check()
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere")
    limited = sandboxed_exec(caps, command, max_memory_bytes=1 << 30, inherit_env=True)
    assert (limited.dropped_env, len(limited.limits)) == (["LD_LIBRARY_PATH"], 2)
    for original in (result, limited):
        for again in (pickle.loads(pickle.dumps(original)), copy.deepcopy(original)):
            assert facts(again) == facts(original)
            assert again.session_diagnostics() == original.session_diagnostics()
            assert str(again.enforcement) == str(original.enforcement)
    assert pickle.loads(pickle.dumps(limited.enforcement)) == limited.enforcement
    # What was kept is judged when it is read.
    make, parts = limited.__reduce__()
    assert callable(make)
    with pytest.raises(ValueError, match=r"not what was pickled: unknown field `more`"):
        make(*parts[:-1], parts[-1].replace("{", '{"more": 1, ', 1))


def test_a_signal_is_a_negative_exit_code(caps: CapabilitySet) -> None:
    assert sandboxed_exec(caps, ["/bin/sh", "-c", "kill -9 $$"]).exit_code == -9


def test_only_granted_files_can_be_touched(caps: CapabilitySet, place: Path) -> None:
    outside = place.parent / "outside"
    outside.write_text("not for you")
    source = f"""
open("inside", "w").write("mine")
for mode in "r", "w":
    try:
        open({str(outside)!r}, mode)
    except PermissionError as error:
        print("denied")
"""
    result = sandboxed_exec(caps, python(source), cwd=place)
    assert result.stdout == b"denied\ndenied\n", result.stderr
    assert (place / "inside").read_text() == "mine"
    assert outside.read_text() == "not for you"


def refused(caps: CapabilitySet, command: list[str], cwd: Path | None = None) -> SandboxError:
    with pytest.raises(SandboxError, match=r"failed to execute .*Permission denied") as caught:
        sandboxed_exec(caps, command, cwd=cwd)
    error = caught.value
    assert (error.errno, error.diagnostic_code) == (errno.EACCES, "program_not_granted")
    return error


def test_a_program_itself_must_be_granted() -> None:
    error = refused(CapabilitySet(), ["/bin/true"])
    assert error.filename == "/bin/true"
    program = os.path.realpath("/bin/true")
    assert error.remediation == {
        "kind": "grant_path",
        "path": program,
        "access": "Read",
        "grant": f'allow_file("{program}", AccessMode.READ)',
    }
    assert "sys.executable" not in str(error)


def test_what_a_program_is_executed_by_must_be_granted_too(place: Path) -> None:
    script = place / "script"
    script.write_text("#!/bin/sh\necho run\n")
    script.chmod(0o755)
    caps = CapabilitySet()
    caps.allow_path(place, AccessMode.READ)
    # Each remedy is one more of what the kernel opens.
    granted = []
    for _ in range(5):
        error = refused(caps, ["./script"], cwd=place)
        assert Path(error.filename or "") == script
        remedy = error.remediation or {}
        assert remedy["path"] in str(error)
        granted.append(remedy["path"])
        caps.allow_file(remedy["path"], AccessMode.READ)
        if Path(remedy["path"]).name.startswith("ld"):
            break
    assert granted[0] == os.path.realpath("/bin/sh")
    # The program is executed: that its libraries are missing, its loader says.
    assert b"libc" in sandboxed_exec(caps, ["./script"], cwd=place).stderr


def test_another_python_than_the_one_that_was_granted_is_explained(place: Path) -> None:
    shim = place / "bin" / "python3"
    shim.parent.mkdir()
    shim.write_text("#!/bin/sh\nexec false\n")
    shim.chmod(0o755)
    caps = CapabilitySet()
    command, path = ["python3", "-c", "pass"], str(shim.parent)
    for advice in ("granted by `allow_interpreter()`", "that runs now is granted"):
        with pytest.raises(SandboxError) as caught:
            sandboxed_exec(caps, command, env={"PATH": path})
        assert advice in str(caught.value)
        assert f"`sys.executable` ({sys.executable})" in str(caught.value)
        assert (caught.value.remediation or {})["path"] == str(shim)
        caps.allow_interpreter()
    assert sandboxed_exec(caps, [sys.executable, *command[1:]]).exit_code == 0


def test_a_program_that_fails_otherwise_asks_for_no_grant(caps: CapabilitySet, place: Path) -> None:
    garbage = place / "garbage"
    garbage.write_text("neither ELF nor a script")
    garbage.chmod(0o755)
    with pytest.raises(SandboxError, match="failed to execute") as caught:
        sandboxed_exec(caps, [str(garbage)])
    error = caught.value
    assert (error.errno, error.filename) == (errno.ENOEXEC, str(garbage))
    assert (error.diagnostic_code, error.remediation) == ("sandbox_failed", None)
    caps = CapabilitySet()
    caps.deny_path(garbage)
    with pytest.raises(SandboxError) as denied:
        sandboxed_exec(caps, [str(garbage)])
    assert denied.value.remediation is None


def test_the_network_can_be_blocked(caps: CapabilitySet) -> None:
    caps.block_network()
    source = "import socket; socket.create_connection(('127.0.0.1', 9))"
    result = sandboxed_exec(caps, python(source))
    assert b"PermissionError" in result.stderr


class TestEnvironment:
    SOURCE = "import json, os; print(json.dumps(dict(os.environ)))"

    def environment(self, caps: CapabilitySet, **options: object) -> dict[str, str]:
        result = sandboxed_exec(caps, python(self.SOURCE), **options)  # type: ignore[arg-type]
        values: dict[str, str] = json.loads(result.stdout)
        values.pop("LC_CTYPE", None)  # Python itself sets it.
        return values

    def test_is_empty(self, caps: CapabilitySet, key: str) -> None:
        assert self.environment(caps) == {}

    @pytest.mark.parametrize("env", [{"A": "1", "B": "2"}, [("A", "0"), ("B", "2"), ("A", "1")]])
    def test_is_a_mapping_or_pairs(self, caps: CapabilitySet, env: object) -> None:
        assert self.environment(caps, env=env) == {"A": "1", "B": "2"}

    def test_can_be_inherited(self, caps: CapabilitySet, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("INHERITED", "yes")
        monkeypatch.setenv("CHANGED", "no")
        seen = self.environment(caps, env={"CHANGED": "yes"}, inherit_env=True)
        assert (seen["INHERITED"], seen["CHANGED"]) == ("yes", "yes")

    @pytest.mark.parametrize("name", ["LD_PRELOAD", "DYLD_INSERT_LIBRARIES", "", "A=B", "A\0"])
    def test_refuses_names(self, caps: CapabilitySet, name: str) -> None:
        with pytest.raises(ValueError, match="environment variable"):
            sandboxed_exec(caps, ["/bin/true"], env={name: "x"})


class TestCommand:
    def test_items_may_be_paths_and_bytes(self, caps: CapabilitySet, place: Path) -> None:
        (place / "script.py").write_text("import sys; print(ascii(sys.argv[1]))")
        command: list[Path | bytes] = [Path(sys.executable), place / "script.py", b"\xff"]
        assert sandboxed_exec(caps, command).stdout == b"'\\udcff'\n"

    def test_must_not_be_empty(self, caps: CapabilitySet) -> None:
        with pytest.raises(ValueError, match="command must not be empty"):
            sandboxed_exec(caps, [])

    @pytest.mark.parametrize("command", ["ls -l", b"ls"])
    def test_is_no_string(self, caps: CapabilitySet, command: object) -> None:
        with pytest.raises(TypeError, match="command must be a sequence"):
            sandboxed_exec(caps, command)  # type: ignore[arg-type]

    def test_that_is_not_found(self, caps: CapabilitySet) -> None:
        with pytest.raises(SandboxError, match="program not found: no-such-program") as raised:
            sandboxed_exec(caps, ["no-such-program"])
        assert raised.value.errno == errno.ENOENT
        assert raised.value.filename == "no-such-program"

    def test_that_is_no_program(self, caps: CapabilitySet, place: Path) -> None:
        for path in (place, Path("/etc/passwd")):
            with pytest.raises(SandboxError, match="not an executable file") as raised:
                sandboxed_exec(caps, [path])
            assert (raised.value.errno, raised.value.filename) == (errno.EACCES, str(path))


class TestWorkingDirectory:
    def test_is_where_the_program_starts(self, caps: CapabilitySet, place: Path) -> None:
        result = sandboxed_exec(caps, python("import os; print(os.getcwd())"), cwd=place)
        assert result.stdout.decode().strip() == str(place)

    def test_that_is_missing(self, caps: CapabilitySet, place: Path) -> None:
        missing = place / "missing"
        with pytest.raises(FileNotFoundError) as caught:
            sandboxed_exec(caps, ["/bin/true"], cwd=missing)
        assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, str(missing))


class TestTimeout:
    def test_ends_the_program(self, caps: CapabilitySet) -> None:
        result = sandboxed_exec(caps, ["/bin/sh", "-c", "echo begun; sleep 60"], timeout_secs=1)
        assert (result.exit_code, result.timed_out) == (124, True)
        assert result.stdout == b"begun\n"

    def test_of_a_background_process_is_not_waited_for(self, caps: CapabilitySet) -> None:
        began = time.monotonic()
        result = sandboxed_exec(caps, ["/bin/sh", "-c", "sleep 60 & exit 3"], timeout_secs=30)
        assert (result.exit_code, result.timed_out) == (3, False)
        assert time.monotonic() - began < 20

    @pytest.mark.parametrize("seconds", [float("inf"), 1e300, None])
    def test_may_be_endless(self, caps: CapabilitySet, seconds: float | None) -> None:
        result = sandboxed_exec(caps, ["/bin/sh", "-c", "exit 124"], timeout_secs=seconds)
        assert (result.exit_code, result.timed_out) == (124, False)

    @pytest.mark.parametrize("seconds", [-1, -0.1, float("nan"), float("-inf")])
    def test_must_not_be_negative(self, caps: CapabilitySet, seconds: float) -> None:
        with pytest.raises(ValueError, match="timeout_secs must be a non-negative number"):
            sandboxed_exec(caps, ["/bin/true"], timeout_secs=seconds)


class TestLimits:
    def test_of_file_size(self, caps: CapabilitySet, place: Path) -> None:
        command = ["/bin/sh", "-c", "head -c 4096 /dev/urandom > big"]
        sandboxed_exec(caps, command, cwd=place, max_file_size_bytes=1024)
        assert (place / "big").stat().st_size == 1024

    def test_of_open_files(self, caps: CapabilitySet) -> None:
        source = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE))"
        assert sandboxed_exec(caps, python(source), max_open_files=64).stdout == b"(64, 64)\n"

    def test_of_processor_time(self, caps: CapabilitySet) -> None:
        result = sandboxed_exec(caps, python("while True: pass"), max_cpu_seconds=1)
        assert result.exit_code == -9
        assert not result.timed_out

    @pytest.mark.parametrize("name", ["max_processes", "max_cpu_seconds", "max_open_files"])
    def test_must_be_positive(self, caps: CapabilitySet, name: str) -> None:
        with pytest.raises(ValueError, match=f"{name} must be positive, got 0"):
            sandboxed_exec(caps, ["/bin/true"], **{name: 0})  # type: ignore[arg-type]


class TestModes:
    @pytest.mark.parametrize("mode", ["auto", "landlock", "seccomp"])
    def test_are_all_the_whole_sandbox(
        self, caps: CapabilitySet, mode: Literal["auto", "landlock", "seccomp"]
    ) -> None:
        caps.block_network()
        source = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"
        result = sandboxed_exec(caps, python(source), enforcement_mode=mode)
        assert b"PermissionError" in result.stderr

    def test_wrong_ones_are_refused(self, caps: CapabilitySet) -> None:
        with pytest.raises(ValueError, match=r"enforcement_mode .* got 'none'"):
            sandboxed_exec(caps, ["/bin/true"], enforcement_mode="none")  # type: ignore[arg-type]


def test_other_threads_run_meanwhile(caps: CapabilitySet, place: Path) -> None:
    fifo = place / "fifo"
    os.mkfifo(fifo)
    # Both ends wait for each other: with the lock held, neither would get there.
    writer = threading.Thread(target=fifo.write_text, args=("from another thread",))
    writer.start()
    result = sandboxed_exec(caps, ["/bin/cat", fifo], timeout_secs=30)
    writer.join()
    assert result.stdout == b"from another thread"


def test_many_at_once_while_the_set_grows(caps: CapabilitySet, place: Path) -> None:
    def run(number: int) -> bytes:
        caps.allow_path(place, AccessMode.READ)
        return sandboxed_exec(caps, ["/bin/echo", str(number)]).stdout

    with ThreadPoolExecutor(48) as executor:
        outputs = list(executor.map(run, range(96)))
    assert outputs == [b"%d\n" % number for number in range(96)]


def test_standard_input_is_empty(caps: CapabilitySet) -> None:
    assert sandboxed_exec(caps, ["/bin/cat"], timeout_secs=30).exit_code == 0


def test_can_be_interrupted(caps: CapabilitySet, place: Path) -> None:
    fifo = place / "fifo"
    os.mkfifo(fifo)

    def interrupt() -> None:
        fifo.read_text()  # The program has begun.
        signal.raise_signal(signal.SIGINT)

    other = threading.Thread(target=interrupt)
    other.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        sandboxed_exec(caps, ["/bin/sh", "-c", "echo > fifo; sleep 60"], cwd=place)
    other.join()
    assert time.monotonic() - began < 20
