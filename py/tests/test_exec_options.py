"""What can be given to a sandboxed program, and what its result tells."""

import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nono_py
import pytest
from nono_py import CapabilitySet, ProxyHandle, sandboxed_exec

#: Nobody's: no process and no file is this user's.
UID = 54321


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def python(source: str) -> list[str]:
    return [sys.executable, "-c", source]


class TestResult:
    def test_tells_what_was_run(self, caps: CapabilitySet) -> None:
        command = shell("printf 'caf\\303\\251\\n\\377'")
        result = sandboxed_exec(caps, command)
        assert result.args is command
        assert result.text == "caf\u00e9\n\ufffd"
        assert result.check() is result
        assert (result.signal, result.dropped_env) == (None, [])
        assert result.enforcement.landlock_abi > 0
        # Whatever it starts is within reach.
        assert not any("group" in what for what in result.enforcement.missing)

    def test_tells_what_was_used(self, caps: CapabilitySet) -> None:
        # Known if it is more than the caller has ever had.
        size = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) + (64 << 20)
        source = f"import time\nx = bytearray({size})\nwhile time.process_time() < 0.2: pass"
        result = sandboxed_exec(caps, python(source))
        assert result.max_rss is not None
        assert result.max_rss > size
        assert 0.2 <= result.cpu_time <= result.duration * (os.cpu_count() or 1)

    def test_tells_of_a_signal(self, caps: CapabilitySet) -> None:
        result = sandboxed_exec(caps, shell("kill -TERM $$"))
        assert (result.exit_code, result.signal) == (-15, 15)

    def test_check_raises_as_subprocess_does(self, caps: CapabilitySet) -> None:
        command = shell("echo out; echo err >&2; exit 3")
        with pytest.raises(subprocess.CalledProcessError) as failed:
            sandboxed_exec(caps, command).check()
        assert (failed.value.returncode, failed.value.cmd) == (3, command)
        assert (failed.value.stdout, failed.value.stderr) == (b"out\n", b"err\n")
        with pytest.raises(subprocess.TimeoutExpired) as expired:
            sandboxed_exec(caps, shell("echo early; sleep 60"), timeout_secs=0.5).check()
        assert (expired.value.timeout, expired.value.stdout) == (0.5, b"early\n")


class TestDiagnostics:
    def test_of_a_success_are_none(self, caps: CapabilitySet) -> None:
        # Whatever it says: a program must not be able to ask for a grant.
        said = shell("echo 'cat: /root/.ssh/id_rsa: Permission denied' >&2")
        report = sandboxed_exec(caps, said).session_diagnostics()
        assert report["exit_code"] == 0
        assert report["diagnostics"] == []

    def test_never_propose_a_grant(self, caps: CapabilitySet) -> None:
        said = shell("echo 'cat: /root/.ssh/id_rsa: Permission denied' >&2; exit 1")
        report = sandboxed_exec(caps, said).session_diagnostics()
        hint, *others = report["diagnostics"]
        assert hint["path"] == "/root/.ssh/id_rsa"
        assert hint["detail"]["kind"] == "stderr_observation"
        assert "not by the kernel" in hint["hint"]
        assert "remediation" not in hint
        kinds = [other["remediation"]["kind"] for other in others]
        assert kinds == ["run_discovery", "check_policy"]

    def test_tell_what_is_known(self, caps: CapabilitySet) -> None:
        late = sandboxed_exec(caps, ["/bin/sleep", "60"], timeout_secs=0)
        assert [v["code"] for v in late.session_diagnostics()["violations"]] == ["time_limit"]
        loud = sandboxed_exec(caps, ["/bin/echo", "x" * 99], max_output_bytes=9)
        assert [v["code"] for v in loud.session_diagnostics()["violations"]] == ["output_limit"]
        assert json.loads(loud.session_diagnostics_json()) == loud.session_diagnostics()

    def test_tell_what_the_supervisor_has_refused(self, caps: CapabilitySet, place: Path) -> None:
        with socket.socket() as other, socket.socket(socket.AF_UNIX) as unix:
            other.bind(("127.0.0.1", 0))
            other.listen()
            unix.bind(str(place / "other.sock"))
            unix.listen()
            port = other.getsockname()[1]
            caps.block_network()
            caps.allow_localhost_port(1 if port != 1 else 2)
            tries = f"""
import socket
for family, address in [
    (socket.AF_INET, ("127.0.0.1", {port})),
    (socket.AF_INET, ("127.0.0.1", {port})),
    (socket.AF_UNIX, {str(place / "other.sock")!r}),
    (socket.AF_UNIX, "\\0nobody"),
]:
    try:
        socket.socket(family).connect(address)
    except PermissionError:
        print("refused")
"""
            result = sandboxed_exec(caps, python(tries))
        assert result.text == "refused\n" * 4
        report = result.session_diagnostics()
        (host,) = report["denials"]
        assert host == {
            "code": "sandbox_denied_network",
            "severity": "warning",
            "message": f"to connect to 127.0.0.1:{port} was refused",
            "address": f"127.0.0.1:{port}",
            "grant": f"allow_localhost_port({port})",
            "detail": {"kind": "supervisor_denial", "observation_kind": "connect"},
        }
        path, name = report["ipc_denials"]
        assert path["path"] == str(place / "other.sock")
        assert path["grant"] == f'allow_unix_socket("{place}/other.sock")'
        assert "@nobody" in name["message"]
        assert "grant" not in name
        # What the program says of itself is among none of these.
        assert report["diagnostics"] == [host, path, name]

    def test_survive_any_bytes(self, caps: CapabilitySet) -> None:
        odd = "import sys; sys.stderr.buffer.write(b'x' * 65535 + b'\\xc3\\xa9'); sys.exit(1)"
        assert sandboxed_exec(caps, python(odd)).session_diagnostics()["exit_code"] == 1


class TestInput:
    @pytest.mark.parametrize("data", ["caf\u00e9", "caf\u00e9".encode(), bytearray(b"caf\xc3\xa9")])
    def test_is_text_or_bytes(self, caps: CapabilitySet, data: str | bytes) -> None:
        assert sandboxed_exec(caps, ["/bin/cat"], input=data).text == "caf\u00e9"

    def test_larger_than_a_pipe_need_not_be_read(self, caps: CapabilitySet) -> None:
        data = b"x" * (4 << 20)
        assert sandboxed_exec(caps, ["/bin/cat"], input=data).stdout == data
        assert sandboxed_exec(caps, ["/bin/true"], input=data).exit_code == 0

    @pytest.mark.parametrize("data", [5, ["x"]])
    def test_of_another_kind_is_refused(self, caps: CapabilitySet, data: object) -> None:
        with pytest.raises(TypeError, match="input must be bytes-like or str"):
            sandboxed_exec(caps, ["/bin/cat"], input=data)  # type: ignore[arg-type]

    def test_is_an_alternative_to_stdin(self, caps: CapabilitySet) -> None:
        with pytest.raises(ValueError, match="may not both be used"):
            sandboxed_exec(caps, ["/bin/cat"], input=b"", stdin=subprocess.DEVNULL)


class TestStreams:
    def test_can_be_files(self, caps: CapabilitySet, place: Path) -> None:
        (place / "in").write_text("from a file")
        with (place / "in").open() as stdin, (place / "out").open("wb") as stdout:
            result = sandboxed_exec(caps, ["/bin/cat"], stdin=stdin, stdout=stdout)
            again = sandboxed_exec(caps, shell("echo >&2 more"), stderr=stdout.fileno())
        assert (result.stdout, again.stderr) == (b"", b"")
        assert (place / "out").read_text() == "from a filemore\n"

    def test_can_be_pipes(self, caps: CapabilitySet) -> None:
        read, write = os.pipe()
        with os.fdopen(read, "rb") as reader:
            with os.fdopen(write, "wb") as writer:
                sandboxed_exec(caps, ["/bin/echo", "through a pipe"], stdout=writer)
            assert reader.read() == b"through a pipe\n"

    def test_can_be_merged_or_discarded(self, caps: CapabilitySet) -> None:
        both = shell("echo out; echo err >&2")
        assert sandboxed_exec(caps, both, stderr=subprocess.STDOUT).stdout == b"out\nerr\n"
        result = sandboxed_exec(caps, both, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert (result.stdout, result.stderr) == (b"", b"")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"stdin": subprocess.PIPE}, "use input"),
            ({"stdout": subprocess.STDOUT}, "for stderr only"),
            ({"stdout": -7}, "neither a descriptor nor"),
            ({"stdin": 2**40}, f"{2**40} is neither a descriptor nor"),
            ({"stdin": -(2**40)}, "neither a descriptor nor"),
            ({"stdout": subprocess.PIPE, "pty": True}, "none can be given"),
            ({"input": b"", "pty": True}, "input cannot be given together with a terminal"),
        ],
    )
    def test_that_make_no_sense_are_refused(
        self, caps: CapabilitySet, options: dict[str, object], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            sandboxed_exec(caps, ["/bin/cat"], **options)  # type: ignore[arg-type]

    @pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
    def test_of_a_closed_socket_is_no_constant(self, caps: CapabilitySet, stream: str) -> None:
        closed = socket.socket()
        closed.close()
        with pytest.raises(ValueError, match=r"this socket is closed.* fileno\(\) is -1"):
            sandboxed_exec(caps, ["/bin/cat"], **{stream: closed})  # type: ignore[arg-type]

    def test_that_are_closed_are_refused(self, caps: CapabilitySet) -> None:
        with pytest.raises(OSError, match="Bad file descriptor"):
            sandboxed_exec(caps, ["/bin/cat"], stdin=1_000_000)


class TestTerminal:
    def test_is_the_programs_own(self, caps: CapabilitySet) -> None:
        script = "tty; stty size; echo err >&2; echo tty >/dev/tty"
        lines = sandboxed_exec(caps, shell(script), pty=(50, 132)).text.splitlines()
        assert lines[0].startswith("/dev/pts/")
        assert lines[1:] == ["50 132", "err", "tty"]

    def test_has_a_usual_size(self, caps: CapabilitySet) -> None:
        assert sandboxed_exec(caps, shell("stty size"), pty=True).text == "24 80\r\n"
        assert sandboxed_exec(caps, shell("tty"), pty=False).text == "not a tty\n"

    def test_ends_with_the_time(self, caps: CapabilitySet) -> None:
        result = sandboxed_exec(caps, shell("echo $(id -u); read x"), pty=True, timeout_secs=1)
        assert result.timed_out
        assert result.text.strip() == str(os.getuid())


class TestEnvironment:
    def test_leaves_loader_variables_out_and_says_so(
        self, caps: CapabilitySet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LD_PRELOAD", "")
        monkeypatch.setenv("KEPT", "yes")
        result = sandboxed_exec(caps, ["/usr/bin/env"], inherit_env=True)
        assert "LD_PRELOAD" in result.dropped_env
        assert "KEPT=yes" in result.text.splitlines()
        assert "LD_PRELOAD" not in result.text

    def test_of_a_proxy_comes_with_its_network(
        self, caps: CapabilitySet, proxy: ProxyHandle
    ) -> None:
        env = {"MINE": "1", "HTTP_PROXY": "http://elsewhere"}
        result = sandboxed_exec(caps, ["/usr/bin/env"], proxy=proxy, env=env)
        variables = dict(line.split("=", 1) for line in result.text.splitlines())
        assert variables == dict(proxy.sandbox_env(env))
        # The set itself is as it was.
        assert not caps.is_network_blocked
        source = "import socket; socket.create_connection(('127.0.0.1', 9))"
        assert b"PermissionError" in sandboxed_exec(caps, python(source), proxy=proxy).stderr

    def test_and_directory_may_be_bytes_and_paths(self, caps: CapabilitySet, place: Path) -> None:
        odd = os.fsencode(place) + b"/\xff"
        os.mkdir(odd)  # noqa: PTH102 - the name is no text
        env = {b"BYTES": b"\xff", "PATHLIKE": place}
        source = "import os; print(os.getcwdb(), os.environb[b'BYTES'], os.environ['PATHLIKE'])"
        result = sandboxed_exec(caps, python(source), cwd=odd, env=env)  # type: ignore[arg-type]
        assert result.text == f"{odd!r} b'\\xff' {place}\n"


class TestLimits:
    def test_of_memory(self, caps: CapabilitySet) -> None:
        use = python("len(b'x' * (1 << 30))")
        result = sandboxed_exec(caps, use, max_memory_bytes=1 << 29)
        # By whichever this machine has.
        is_grouped = result.limits["max_memory_bytes"] == "cgroup"
        assert is_grouped or result.limits["max_memory_bytes"] == "rlimit"
        assert result.oom_killed == is_grouped
        assert is_grouped or b"MemoryError" in result.stderr
        assert result.exit_code != 0

    def test_of_output(self, caps: CapabilitySet) -> None:
        result = sandboxed_exec(caps, shell("yes | head -c 3000000"), max_output_bytes=1000)
        assert (len(result.stdout), result.truncated, result.exit_code) == (1000, True, 0)
        assert result.limits == {"max_output_bytes": "pipe"}

    @pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
    def test_of_processes(self, caps: CapabilitySet) -> None:
        script = "for i in 1 2 3 4 5 6; do sleep 60 & done; echo all"
        result = sandboxed_exec(caps, shell(script), max_processes=3, uid=UID)
        assert b"fork" in result.stderr
        assert result.limits["max_processes"] in ("cgroup", "rlimit")
        result = sandboxed_exec(caps, ["/bin/true"], max_processes=3)
        assert result.limits["max_processes"] in ("cgroup", "ignored for root")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
class TestUser:
    def test_is_dropped_to_after_the_grants_are_opened(
        self, caps: CapabilitySet, place: Path
    ) -> None:
        place.parent.chmod(0o700)
        source = "import os; print(os.getresuid(), os.getresgid(), os.getgroups())"
        result = sandboxed_exec(caps, ["/usr/bin/python3", "-c", source], uid=UID)
        if not Path("/usr/bin/python3").exists():
            pytest.skip("the interpreter is root's alone")
        three = (UID, UID, UID)
        assert result.text == f"{three} {three} []\n", result.stderr

    def test_may_have_another_group(self, caps: CapabilitySet) -> None:
        result = sandboxed_exec(caps, shell("id -u; id -g; id -G"), uid=UID, gid=UID + 1)
        assert result.text.split() == [str(UID), str(UID + 1), str(UID + 1)]

    def test_ends_with_its_time(self, caps: CapabilitySet) -> None:
        script = "(setsid sleep 60 &); sleep 60"
        assert sandboxed_exec(caps, shell(script), uid=UID, timeout_secs=0.3).timed_out

    def test_needs_ids_that_make_sense(self, caps: CapabilitySet) -> None:
        for option in ({"uid": 0}, {"gid": 0}):
            with pytest.raises(ValueError, match="must be non-zero"):
                sandboxed_exec(caps, ["/bin/true"], **option)  # type: ignore[arg-type]
        # The kernel would take it to mean that root stays root.
        for option in ({"uid": 2**32 - 1}, {"uid": UID, "gid": 2**32 - 1}):
            with pytest.raises(ValueError, match="must be below 4294967295, got 4294967295"):
                sandboxed_exec(caps, ["/bin/true"], **option)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="gid needs uid"):
            sandboxed_exec(caps, ["/bin/true"], gid=5)


def test_errors_of_arguments_name_the_function_that_was_called(caps: CapabilitySet) -> None:
    functions: list[Callable[..., object]] = [
        nono_py.sandboxed_exec,
        lambda *args, **options: asyncio.run(nono_py.sandboxed_exec_async(*args, **options)),
        lambda *args, **options: asyncio.run(nono_py.sandboxed_spawn(*args, **options)),
        lambda caps, command, **options: nono_py.learn(command, **options),
    ]
    names = ["sandboxed_exec", "sandboxed_exec_async", "sandboxed_spawn", "learn"]
    for name, function in zip(names, functions, strict=True):
        said = rf"^{name}\(\) got an unexpected keyword argument 'timeout_seconds'$"
        with pytest.raises(TypeError, match=said):
            function(caps, ["/bin/true"], timeout_seconds=1)
    with pytest.raises(TypeError, match=r"^sandboxed_exec\(\) missing 1 required positional"):
        nono_py.sandboxed_exec(caps)  # type: ignore[call-arg]
    # What is wrong with a value is said as ever.
    with pytest.raises(TypeError, match="sequence of arguments, not one string"):
        nono_py.sandboxed_exec(caps, "/bin/true")


def test_background_processes_end_or_are_kept(caps: CapabilitySet, place: Path) -> None:
    script = shell("(sleep 0.7; echo done > done) & exit 0")
    sandboxed_exec(caps, script, cwd=place)
    sandboxed_exec(caps, shell("sleep 1"))
    assert not (place / "done").exists()
    sandboxed_exec(caps, script, cwd=place, keep_background=True)
    deadline = time.monotonic() + 20
    while not (place / "done").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
