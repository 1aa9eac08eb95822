"""`nono_py.limited`: commands under bounds of memory and processes, in the shape of PyPI's."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import nono_py
import pytest
from nono_py import AccessMode, CapabilitySet, SandboxError, limited
from users import interpreter

#: Whether the kernel holds this user to a number of processes.
IS_HELD = os.geteuid() != 0
#: Whether there are control groups that hold root too.
CONTROLLERS = Path("/sys/fs/cgroup/cgroup.controllers")
HAS_GROUPS = CONTROLLERS.exists() and "pids" in CONTROLLERS.read_text().split()
SMALL = 256 * 2**20


@pytest.fixture(autouse=True)
def no_binary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has must not matter."""
    monkeypatch.delenv("NONO_BIN", raising=False)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "nono"
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    return file


def python(code: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


def test_a_command_runs_and_its_result_is_what_subprocess_would_say(caps: CapabilitySet) -> None:
    done = limited.run(caps, python("import sys; print('a\\r\\nb'); sys.stderr.write('c')"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "a\nb\n", "c")
    assert done.ok
    assert not done.oom_killed
    raw = limited.run(caps, ["/bin/sh", "-c", "printf '\\377'; exit 3"], text=False)
    assert (raw.returncode, raw.stdout, raw.ok) == (3, b"\xff", False)
    assert limited.run(caps, ["/bin/sh", "-c", "printf '\\377'"]).stdout == "\ufffd"


def test_the_argv_of_a_result_runs_and_does_the_same(caps: CapabilitySet, place: Path) -> None:
    (place / "file").write_text("x")
    command = [
        *python(
            """
            import os, pathlib, resource, sys
            pathlib.Path("made").write_text("y")
            print(os.environ["MARK"], resource.getrlimit(resource.RLIMIT_AS), os.getcwd())
            try:
                print(os.listdir("/etc"))
            except PermissionError as error:
                print(error.errno)
            sys.exit(7)
            """
        )
    ]
    caps.block_network()
    environment = {**os.environ, "MARK": "m"}
    done = limited.run(caps, command, memory="512M", cwd=place, env=environment)
    assert done.returncode == 7
    assert isinstance(done.stdout, str)
    assert str(512 * 2**20) in done.stdout
    assert done.stdout.endswith("13\n")
    (place / "made").unlink()
    again = subprocess.run(
        done.argv, cwd=place, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (again.returncode, again.stdout, again.stderr) == (7, done.stdout, "")
    assert (place / "made").exists()


def test_the_argv_is_without_a_policy_and_the_flags_go_with_one(place: Path) -> None:
    """Without `--bare` the groups that a policy requires hold, and the environment is small."""
    run = [limited.find_nono_binary(), "run", "-g", "system_read_linux"]
    said = [*run, "--allow", str(place), "--", "/bin/sh", "-c", 'echo "$MARK" >made; exit 4']
    environment = {**os.environ, "MARK": "m"}
    done = subprocess.run(
        said, cwd=place, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (4, "")
    assert (place / "made").read_text() == "\n"
    done = subprocess.run([*run, "--bare", "--", "true"], capture_output=True, text=True)
    assert done.returncode == 125
    assert "--bare is without a policy" in done.stderr


def test_memory_is_refused_beyond_the_limit(caps: CapabilitySet) -> None:
    hungry = python("x = bytearray(2**30)")
    assert limited.run(caps, hungry).ok
    done = limited.run(caps, hungry, memory=SMALL)
    assert not done.ok
    assert done.result is not None
    assert "max_memory_bytes" in done.result.limits
    if done.result.limits["max_memory_bytes"] == "rlimit":
        assert isinstance(done.stderr, str)
        assert "MemoryError" in done.stderr
    assert limited.run(caps, python("x = bytearray(2**20)"), memory=f"{SMALL // 2**20}MiB").ok


#: Starts as many processes as it can, up to ten, and prints how many those were.
FORKS = """
    import os, time
    made = 0
    for _ in range(10):
        try:
            if os.fork() == 0:
                os.read(0, 1)
                os._exit(0)
        except BlockingIOError:
            break
        made += 1
    print(made)
"""

#: A program of an ordinary user's own, whose processes nobody else's are counted with.
AS_USER = """
    import sys
    from nono_py import CapabilitySet, limited

    caps = CapabilitySet()
    caps.allow_interpreter()
    command = [sys.executable, "-c", sys.argv[1]]
    done = limited.run(caps, command, max_processes=4, env={})
    print(done.returncode, done.stdout.strip(), done.result.limits["max_processes"])
"""


@pytest.mark.skipif(IS_HELD, reason="only root can become a user who has no other processes")
def test_processes_are_refused_beyond_the_limit() -> None:
    user = 61234
    with subprocess.Popen(
        [interpreter(user), "-c", textwrap.dedent(AS_USER), textwrap.dedent(FORKS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        user=user,
        group=user,
        extra_groups=[],
        cwd="/",
        env={"PYTHONPATH": str(Path(nono_py.__file__).parent.parent)},
    ) as process:
        assert process.stdout is not None
        said = process.stdout.read().split()
        assert said, process.stderr.read() if process.stderr else ""
    code, made, by = said
    assert (code, by) in [("0", "rlimit"), ("0", "cgroup")]
    # The program itself is one of them.
    assert int(made) < 4


@pytest.mark.skipif(IS_HELD or HAS_GROUPS, reason="for root without control groups")
def test_a_limit_that_would_not_hold_is_an_error_before_anything_runs(
    caps: CapabilitySet, place: Path
) -> None:
    with pytest.raises(SandboxError, match="max_processes"):
        limited.run(caps, ["/bin/sh", "-c", "echo >made"], max_processes=8, cwd=place)
    assert not (place / "made").exists()


def test_a_timeout_is_the_exception_of_subprocess(caps: CapabilitySet) -> None:
    slow = ["/bin/sh", "-c", "echo begun; sleep 60"]
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        limited.run(caps, slow, timeout=0.5)
    assert caught.value.timeout == 0.5
    assert caught.value.output == b"begun\n"
    assert caught.value.stderr is None
    assert caught.value.cmd[-1] == "echo begun; sleep 60"
    with pytest.raises(subprocess.TimeoutExpired):
        limited.run(caps, slow, timeout=-1)


def test_a_signal_is_the_exit_code_of_shells(caps: CapabilitySet) -> None:
    done = limited.run(caps, ["/bin/sh", "-c", "kill -9 $$"])
    assert (done.returncode, done.oom_killed) == (limited.OOM_EXIT_CODE, True)
    assert limited.RunResult(["x"], 137, None, None).oom_killed
    assert limited.RunResult(["x"], 0, "", "") == limited.RunResult(["x"], 0, "", "")


def test_streams_and_environment_are_the_callers_if_nothing_else_is_said(place: Path) -> None:
    code = """
        import sys
        from nono_py import CapabilitySet, limited

        caps = CapabilitySet()
        caps.allow_interpreter()
        words = ["/bin/sh", "-c", 'read line; echo "$line $MARK"; echo err >&2']
        done = limited.run(caps, words, capture_output=False)
        print(done.stdout, done.stderr, flush=True)
    """
    done = subprocess.run(
        python(code),
        input="told\n",
        env={**os.environ, "MARK": "m"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("told m\nNone None\n", "err\n")
    closed = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" <&- 2>&-', "sh", *python(code)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "MARK": "m"},
    )
    assert closed.stdout == " m\nNone None\n"


def test_output_is_never_cut_in_silence(caps: CapabilitySet) -> None:
    with pytest.raises(SandboxError, match="capture_output=False"):
        limited.run(caps, ["/bin/sh", "-c", "yes | head -c 70000000"])


def test_grants_become_flags(tmp_path: Path) -> None:
    caps = CapabilitySet()
    expected = []
    modes = [(AccessMode.READ, "read"), (AccessMode.WRITE, "write")]
    for mode, name in [*modes, (AccessMode.READ_WRITE, "allow")]:
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.txt").touch()
        caps.allow_path(tmp_path / name, mode)
        caps.allow_file(tmp_path / f"{name}.txt", mode)
        expected += [f"--{name}", str(tmp_path / name)]
        expected += [f"--{name}-file", str(tmp_path / f"{name}.txt")]
    assert limited.caps_to_flags(caps) == expected
    caps.block_network()
    assert limited.caps_to_flags(caps) == [*expected, "--block-net"]


@pytest.mark.parametrize(
    ("grant", "said"),
    [
        (lambda caps, _: caps.allow_tcp_connect_port(443), "tcp_connect_ports"),
        (lambda caps, _: caps.allow_bind_port(443), "tcp_bind_ports"),
        (lambda caps, _: caps.allow_localhost_port(443), "localhost_ports"),
        (lambda caps, path: caps.allow_unix_socket(path), "unix_sockets"),
        (lambda caps, path: caps.deny_path(path), "denied_paths"),
        (lambda caps, _: caps.platform_rule("(allow iokit-open)"), "platform_rules"),
        (lambda caps, _: caps.accept_less(), "accept_less"),
        (
            lambda caps, path: caps.allow_path(path, AccessMode.READ, execute=False),
            "without execution",
        ),
    ],
)
def test_what_no_flag_can_say_is_an_error(grant: Any, said: str, tmp_path: Path) -> None:
    caps = CapabilitySet()
    grant(caps, tmp_path)
    with pytest.raises(ValueError, match=said):
        limited.caps_to_flags(caps)
    with pytest.raises(ValueError, match=said):
        limited.run(caps, ["true"])


def test_a_proxy_is_not_dropped(proxy: Any) -> None:
    caps = CapabilitySet()
    caps.proxy_only(proxy)
    with pytest.raises(ValueError, match="proxy"):
        limited.caps_to_flags(caps)


def test_a_comma_would_be_two_directories(tmp_path: Path) -> None:
    (tmp_path / "a,b").mkdir()
    caps = CapabilitySet()
    caps.allow_path(tmp_path / "a,b", AccessMode.READ)
    assert limited.caps_to_flags(caps) == ["--read", str(tmp_path / "a,b")]
    caps.allow_path(tmp_path / "a,b", AccessMode.READ_WRITE)
    with pytest.raises(ValueError, match="comma"):
        limited.caps_to_flags(caps)


def test_the_argv_is_that_of_the_program_that_was_named(program: Path) -> None:
    argv = limited.build_argv(
        CapabilitySet(), ("a", "--b"), memory=" 512M ", max_processes=4, nono_bin=program
    )
    limits = ["--memory", "512M", "--max-processes", "4"]
    assert argv == [str(program), "run", *limits, "--", "a", "--b"]
    argv = limited.build_argv(CapabilitySet(), [Path("/bin/true"), b"x"], nono_bin=program)
    assert argv[-2:] == ["/bin/true", "x"]


def test_a_program_is_found_where_it_was_named(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = limited.find_nono_binary()
    assert subprocess.run([own, "--version"], capture_output=True).stdout.startswith(b"nono-py ")
    assert limited.build_argv(CapabilitySet(), ["x"])[:3] == [own, "run", "--bare"]
    # By whatever name.
    assert limited.build_argv(CapabilitySet(), ["x"], nono_bin=own)[:3] == [own, "run", "--bare"]
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    assert limited.find_nono_binary() == str(program)
    monkeypatch.setenv("NONO_BIN", "/missing")
    with pytest.raises(FileNotFoundError, match="not found or not executable: '/missing'"):
        limited.find_nono_binary()
    with pytest.raises(FileNotFoundError):
        limited.build_argv(CapabilitySet(), ["x"])
    assert limited.find_nono_binary(program) == str(program)
    for other in ["/etc/passwd", "/tmp"]:
        with pytest.raises(FileNotFoundError) as caught:
            limited.find_nono_binary(other)
        assert caught.value.filename == other


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"memory": 0}, ValueError, "must be positive, got 0"),
        ({"memory": "0"}, ValueError, "must be positive"),
        ({"memory": -1}, ValueError, "must be positive, got -1"),
        ({"memory": True}, TypeError, "not bool"),
        ({"memory": 1.5}, TypeError, "not float"),
        ({"memory": ""}, ValueError, "cannot be empty"),
        ({"memory": "junk"}, ValueError, "is no size"),
        ({"memory": "5KB"}, ValueError, "is no size"),
        ({"memory": "1.5G"}, ValueError, "is no size"),
        ({"memory": "9999999999T"}, ValueError, "more than the kernel can count"),
        ({"memory": 2**63}, ValueError, "more than the kernel can count"),
        ({"max_processes": 0}, ValueError, "must be at least 1, got 0"),
        ({"max_processes": True}, TypeError, "not bool"),
        ({"max_processes": 1.5}, TypeError, "got float"),
        ({"max_processes": "4"}, TypeError, "got str"),
        ({"max_processes": 2**63}, ValueError, "more than the kernel can count"),
    ],
)
def test_limits_that_cannot_be_meant_are_errors(
    options: dict[str, Any], error: type[Exception], said: str
) -> None:
    caps = CapabilitySet()
    with pytest.raises(error, match=said):
        limited.build_argv(caps, ["true"], **options)
    with pytest.raises(error):
        limited.run(caps, ["true"], **options)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1024", 1024), ("1k", 2**10), ("512M", 512 * 2**20), ("2GiB", 2**31), (" 1 t ", 2**40)],
)
def test_sizes_are_powers_of_1024(text: str, size: int) -> None:
    assert limited.parse_memory(text) == size


@pytest.mark.parametrize("text", ["5\u212a", "5Mi\u0130B", "\u0665", "5\u017f"])
def test_a_letter_that_only_looks_like_one_of_a_size_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        limited.parse_memory(text)


def test_commands_that_cannot_be_meant_are_errors() -> None:
    caps = CapabilitySet()
    with pytest.raises(ValueError, match="at least the program"):
        limited.build_argv(caps, [])
    with pytest.raises(TypeError, match="not one string"):
        limited.build_argv(caps, "true")
    with pytest.raises(TypeError):
        limited.build_argv(caps, ["true", 1])  # type: ignore[list-item]
    with pytest.raises(SandboxError):
        limited.run(caps, ["no-such-program"])


def test_nothing_else_is_imported_for_it() -> None:
    code = (
        "import sys, nono_py; assert 'nono_py.limited' not in sys.modules; "
        "assert nono_py.limited.OOM_EXIT_CODE == 137; assert 'limited' in dir(nono_py)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_limit_of_the_callers_own_is_not_raised(caps: CapabilitySet) -> None:
    """A bound above the caller's leaves the caller's."""
    code = f"""
        import resource
        from nono_py import CapabilitySet, limited

        resource.setrlimit(resource.RLIMIT_AS, ({2 * SMALL}, {2 * SMALL}))
        caps = CapabilitySet()
        caps.allow_interpreter()
        words = ["/bin/sh", "-c", "ulimit -v"]
        print(limited.run(caps, words, memory={8 * SMALL}, env={{}}).stdout.strip())
    """
    done = subprocess.run(python(code), capture_output=True, text=True, timeout=60)
    if "cgroup" not in done.stderr:
        assert done.stdout.strip() == str(2 * SMALL // 1024), done.stderr
