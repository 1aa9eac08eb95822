"""`QueryContext`, `SandboxState`, and sets as values: compared, copied, pickled."""

import copy
import errno
import json
import multiprocessing
import os
import pickle
import platform
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from nono_py import (
    AccessMode,
    CapabilitySet,
    CapabilitySource,
    ProxyConfig,
    QueryContext,
    SandboxState,
    _interpreter,
    sandboxed_exec,
    start_proxy,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path.resolve()
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "file").touch()
    (root / "link").symlink_to("a")
    return root


@pytest.fixture
def granted(root: Path) -> CapabilitySet:
    caps = CapabilitySet()
    caps.allow_path(root / "link", AccessMode.READ)
    return caps


class TestPaths:
    def test_that_are_granted(self, granted: CapabilitySet, root: Path) -> None:
        said = QueryContext(granted).query_path(root / "a" / "file", AccessMode.READ)
        assert said == {
            "status": "allowed",
            "reason": "granted_path",
            "granted_path": str(root / "a"),
            "access": "read",
        }

    def test_that_two_grants_allow(self, granted: CapabilitySet, root: Path) -> None:
        granted.allow_path(root / "a" / "b", AccessMode.WRITE)
        said = QueryContext(granted).query_path(root / "a" / "b" / "new", AccessMode.READ_WRITE)
        assert said["reason"] == "granted_path"
        assert said["granted_path"] == f"{root / 'a'} (read) + {root / 'a' / 'b'} (write)"
        assert said["access"] == "read+write"

    def test_that_are_granted_otherwise(self, granted: CapabilitySet, root: Path) -> None:
        said = QueryContext(granted).query_path(root / "a", AccessMode.WRITE)
        assert said == {
            "status": "denied",
            "reason": "insufficient_access",
            "granted": "read",
            "requested": "write",
        }

    @pytest.mark.parametrize("path", ["", "/etc/passwd", "{}/a/nope/../../x", "{}/a/../x"])
    def test_that_are_not_granted(self, granted: CapabilitySet, root: Path, path: str) -> None:
        said = QueryContext(granted).query_path(path.format(root), AccessMode.READ)
        assert said == {"status": "denied", "reason": "path_not_granted"}

    def test_that_are_denied(self, granted: CapabilitySet, root: Path) -> None:
        granted.deny_path(root / "a" / "b")
        said = QueryContext(granted).query_path(root / "link" / "b" / "x", AccessMode.READ)
        assert said["reason"] == "path_denied"
        assert said["denied_path"] == str(root / "a" / "b")
        assert granted.denied_paths == [str(root / "a" / "b")]

    def test_of_a_set_that_is_refused(self, granted: CapabilitySet, root: Path) -> None:
        granted.allow_path(root / "a", AccessMode.READ_WRITE)
        granted.deny_path(root / "a" / "b")
        said = QueryContext(granted).query_path(root / "a" / "file", AccessMode.READ)
        assert (said["status"], said["reason"]) == ("denied", "set_refused")
        with pytest.raises(ValueError, match="within the grant") as refused:
            sandboxed_exec(granted, ["/bin/true"])
        assert said["reason"] == "set_refused"
        assert said["message"] == str(refused.value)

    def test_a_set_is_taken_as_it_was(self, granted: CapabilitySet, root: Path) -> None:
        context = QueryContext(granted)
        granted.allow_path(root, AccessMode.READ)
        assert context.query_path(root, AccessMode.READ)["status"] == "denied"

    def test_what_would_be_enough(self, granted: CapabilitySet, root: Path) -> None:
        context = QueryContext(granted)
        call = context.suggest_path(root / "link" / "file", AccessMode.WRITE)
        assert call == f'allow_file("{root / "a" / "file"}", AccessMode.WRITE)'
        eval(f"granted.{call}", {"granted": granted, "AccessMode": AccessMode})
        context = QueryContext(granted)
        assert context.query_path(root / "a" / "file", AccessMode.WRITE)["status"] == "allowed"
        assert context.suggest_path(root / "a" / "file", AccessMode.WRITE) is None

    def test_a_suggestion_is_a_call_whatever_the_name(self, root: Path) -> None:
        for name in ("it's", 'a "b" \\', "\x01\x7f\u202e", "line\nline", "\udcff\udce4"):
            path = root / name
            path.write_text("x")
            caps = CapabilitySet()
            call = QueryContext(caps).suggest_path(path, AccessMode.READ)
            eval(f"caps.{call}", {"caps": caps, "AccessMode": AccessMode})
            assert QueryContext(caps).query_path(path, AccessMode.READ)["status"] == "allowed"

    def test_of_a_set_that_is_refused_are_allowed_nowhere(self, root: Path) -> None:
        caps = CapabilitySet()
        caps.allow_path(root, AccessMode.READ_WRITE)
        caps.deny_path(root / "a")
        context = QueryContext(caps)
        refused = context.query_path(root, AccessMode.READ)
        assert refused["reason"] == "set_refused"
        assert context.query_network() == refused
        assert context.query_network("example.com", 443) == refused
        assert context.query_network(port=80, bind=True) == refused
        assert context.query_unix_socket(root / "socket") == refused

    def test_that_are_covered(self, granted: CapabilitySet, root: Path) -> None:
        assert granted.path_covered(root / "a" / "b")
        assert not granted.path_covered(f"{root}/a/../../etc")
        assert not granted.path_covered(root)


class TestNetwork:
    def test_as_a_whole(self) -> None:
        caps = CapabilitySet()
        allowed = {"status": "allowed", "reason": "network_allowed"}
        assert QueryContext(caps).query_network() == allowed
        caps.allow_tcp_connect_port(443)
        assert QueryContext(caps).query_network() == allowed
        caps.block_network()
        denied = {"status": "denied", "reason": "network_blocked"}
        assert QueryContext(caps).query_network() == denied

    def test_by_port(self) -> None:
        caps = CapabilitySet()
        caps.allow_tcp_connect_port(443)
        caps.allow_bind_port(8080)
        context = QueryContext(caps)
        assert context.query_network("example.com", 443)["reason"] == "port_granted"
        said = context.query_network("example.com", 80)
        assert said == {
            "status": "denied",
            "reason": "port_not_granted",
            "suggestion": "allow_tcp_connect_port(80)",
        }
        assert context.query_network(port=8080, bind=True)["status"] == "allowed"
        assert context.query_network(port=443, bind=True)["status"] == "denied"
        with pytest.raises(ValueError, match="needs a port"):
            context.query_network("example.com")

    def test_with_a_proxy(self) -> None:
        caps = CapabilitySet()
        with start_proxy(ProxyConfig()) as proxy:
            caps.proxy_only(proxy)
            context = QueryContext(caps)
            assert context.query_network("127.0.0.1", proxy.port)["reason"] == "proxy"
            assert context.query_network("localhost", proxy.port)["reason"] == "proxy"
            assert context.query_network("192.0.2.1", proxy.port)["status"] == "denied"
            assert context.query_network("example.com", proxy.port)["status"] == "denied"
            said = context.query_network("127.0.0.1", 1)
            assert said.get("suggestion") == "allow_localhost_port(1)"

    def test_unix_sockets(self, root: Path) -> None:
        import socket

        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(root / "socket"))
            caps = CapabilitySet()
            caps.block_network()
            said = QueryContext(caps).query_unix_socket(root / "socket")
            assert said["reason"] == "socket_not_granted"
            caps.allow_unix_socket(root / "socket")
            assert caps.unix_sockets == [str(root / "socket")]
            said = QueryContext(caps).query_unix_socket(root / "socket")
            assert said["reason"] == "socket_granted"


def everything(root: Path) -> CapabilitySet:
    caps = CapabilitySet()
    caps.allow_path(root / "link", AccessMode.READ, execute=False)
    caps.allow_file(root / "a" / "file", AccessMode.READ_WRITE)
    caps.deny_path(root / "a" / "secret")
    caps.allow_unix_socket(root / "a")
    caps.allow_localhost_port(5432)
    caps.allow_tcp_connect_port(443)
    caps.allow_bind_port(8080)
    caps.platform_rule("(allow iokit-open)")
    caps.accept_less()
    with start_proxy(ProxyConfig()) as proxy:
        caps.proxy_only(proxy)
    return caps


class TestState:
    def test_loses_nothing(self, root: Path) -> None:
        caps = everything(root)
        state = SandboxState.from_caps(caps)
        again = SandboxState.from_json(state.to_json())
        assert again == state
        assert again.to_caps() == caps
        assert again.net_blocked
        assert repr(again) == "SandboxState(fs=2, net_blocked=true)"

    def test_has_the_shape_that_programs_know(self, root: Path) -> None:
        caps = CapabilitySet()
        caps.allow_path(root / "link", AccessMode.READ_WRITE)
        caps.block_network()
        path = {"original": str(root / "link"), "resolved": str(root / "a")}
        expected = {"fs": [{**path, "access": "read+write", "is_file": False}], "net_blocked": True}
        assert json.loads(SandboxState.from_caps(caps).to_json()) == expected

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"fs": [], "net_blocked": true, "x": 1}'])
    def test_refuses_what_it_does_not_know(self, text: str) -> None:
        with pytest.raises(ValueError, match="Invalid JSON: "):
            SandboxState.from_json(text)

    def test_refuses_a_path_that_leads_elsewhere(self, root: Path, granted: CapabilitySet) -> None:
        text = SandboxState.from_caps(granted).to_json()
        (root / "link").unlink()
        (root / "link").symlink_to("/etc")
        with pytest.raises(ValueError, match="leads to `/etc`"):
            SandboxState.from_json(text).to_caps()


def summary(caps: CapabilitySet) -> str:
    """Run in another process."""
    return caps.summary()


class TestValues:
    def test_are_compared(self, root: Path) -> None:
        caps, same = everything(root), CapabilitySet()
        assert caps != same
        assert caps == caps
        assert CapabilitySet() == same
        assert hash(caps) == hash(same)
        assert caps != "a set"
        assert caps.fs_capabilities() == caps.fs_capabilities()
        assert len({*caps.fs_capabilities(), *caps.fs_capabilities()}) == 2

    def test_are_copied(self, root: Path) -> None:
        caps = everything(root)
        for twin in copy.copy(caps), copy.deepcopy(caps):
            assert twin == caps
            twin.allow_path(root, AccessMode.READ)
            assert twin != caps

    def test_are_pickled(self, root: Path) -> None:
        caps = everything(root)
        assert pickle.loads(pickle.dumps(caps)) == caps
        state = SandboxState.from_caps(caps)
        assert pickle.loads(pickle.dumps(state)) == state

    def test_go_to_other_processes(self, root: Path) -> None:
        caps = everything(root)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(summary, (caps,)) == caps.summary()

    def test_sources(self, root: Path, granted: CapabilitySet) -> None:
        (grant,) = granted.fs_capabilities()
        assert grant.source == CapabilitySource.user()
        assert grant.is_executable
        for source, text in (
            (CapabilitySource.user(), "user"),
            (CapabilitySource.group("tools"), "group:tools"),
            (CapabilitySource.system(), "system"),
        ):
            assert (str(source), repr(source)) == (text, f"CapabilitySource({text})")
            assert pickle.loads(pickle.dumps(source)) == source
            assert copy.deepcopy(source) == source
        assert len({CapabilitySource.group("a"), CapabilitySource.group("a")}) == 1

    def test_grants_are_merged(self, root: Path, granted: CapabilitySet) -> None:
        granted.allow_path(root / "a", AccessMode.WRITE)
        granted.deduplicate()
        (grant,) = granted.fs_capabilities()
        assert grant.access == AccessMode.READ_WRITE


def test_ports_have_numbers() -> None:
    caps = CapabilitySet()
    allows = (caps.allow_localhost_port, caps.allow_tcp_connect_port, caps.allow_bind_port)
    for allow in allows:
        with pytest.raises(ValueError, match="port 0"):
            allow(0)
        with pytest.raises(OverflowError):
            allow(65536)
    assert (caps.tcp_connect_ports, caps.bind_ports, caps.localhost_ports) == ([], [], [])


@pytest.mark.parametrize("rule", ["allow", "(allow", '(allow file-read* (subpath "/"))'])
def test_rules_of_the_platform_are_checked(rule: str) -> None:
    with pytest.raises(ValueError, match="platform rule"):
        CapabilitySet().platform_rule(rule)


def test_the_interpreter_is_granted_narrowly(root: Path) -> None:
    caps = CapabilitySet()
    caps.allow_interpreter()
    context = QueryContext(caps)
    shared = ("/", "/run", "/sys", "/tmp", "/home", "/root", "/etc/shadow", "/proc/1", root)
    for path in shared:
        assert context.query_path(path, AccessMode.READ)["status"] == "denied", path
    assert {grant.access for grant in caps.fs_capabilities() if not grant.is_file} == {
        AccessMode.READ
    }
    temp = caps.allow_temp()
    said = QueryContext(caps).query_path(f"{temp}/new", AccessMode.READ_WRITE)
    assert said["status"] == "allowed"


@pytest.mark.parametrize("said", ["caller", "owner", "home"])
def test_no_home_is_granted_for_the_script_in_it(
    said: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where `HOME` is another's, as `sudo` and `cron` have it, or holds the home."""
    home = root / "home" / "alice"
    (home / "agent").mkdir(parents=True)
    user = 54321
    account = pwd.struct_passwd(("alice", "x", user, user, "", str(home), "/bin/sh"))
    known = pwd.getpwuid

    def lookup(number: int) -> pwd.struct_passwd:
        return account if number == user else known(number)

    monkeypatch.setattr(pwd, "getpwuid", lookup)
    monkeypatch.setattr(sys, "path", [str(home), str(home.parent), str(home / "agent"), *sys.path])
    monkeypatch.setenv("HOME", "/")
    if said == "home":
        monkeypatch.setenv("HOME", str(home))
    elif os.geteuid():
        pytest.skip("only root can give a directory away")
    else:
        os.chown(home, user, user)
    if said == "caller":
        monkeypatch.setenv("SUDO_UID", str(user))
    granted = {Path(path) for path in _interpreter.paths()}
    assert home / "agent" in granted
    assert not granted.intersection([home, *home.parents])
    assert Path(sys.base_prefix).resolve() in granted


@pytest.mark.parametrize("path", ["/home/alice", "/Users/alice", "/Users", "/home", "/"])
def test_what_is_beneath_home_is_somebodys_home(path: str) -> None:
    assert _interpreter.is_shared(Path(path).resolve(), _interpreter.shared())


class TestProcesses:
    @pytest.mark.parametrize("action", ["signal", "trace", "change"])
    def test_outside_are_out_of_reach(self, action: Literal["signal", "trace", "change"]) -> None:
        said = QueryContext(CapabilitySet()).query_process(action)
        assert said == {"status": "denied", "reason": "process_outside"}

    def test_are_seen_where_proc_is_granted(self) -> None:
        caps = CapabilitySet()
        said = QueryContext(caps).query_process("see")
        assert said == {
            "status": "denied",
            "reason": "path_not_granted",
            "suggestion": 'allow_path("/proc", AccessMode.READ)',
        }
        caps.allow_path("/proc", AccessMode.READ)
        said = QueryContext(caps).query_process("see")
        assert said == {"status": "allowed", "reason": "granted_path", "granted_path": "/proc"}

    def test_are_asked_about_in_known_words(self) -> None:
        with pytest.raises(ValueError, match="'signal', 'trace', 'change' or 'see', got 'eat'"):
            QueryContext(CapabilitySet()).query_process("eat")  # type: ignore[arg-type]


def test_a_set_is_verified(place: Path) -> None:
    caps = CapabilitySet()
    caps.allow_path(place, AccessMode.READ_WRITE)
    caps.block_network()
    verification = caps.verify()
    assert verification, verification.failures
    assert verification.passed
    assert verification.failures == []
    tried = {check.what: check for check in verification.checks}
    assert {"read /", "signal another process", "make a device node", "connect by TCP"} <= {*tried}
    assert tried["read /"].denied
    assert tried["read /"].errno == errno.EACCES
    assert str(tried["read /"]).startswith("read /: denied (Permission denied")
    assert verification.enforcement.network == "blocked"
    assert repr(verification) == f"Verification(checks={len(tried)}, failures=0)"


# A process in which the kernel says yes to whoever asks to trace another, and does nothing.
LYING_KERNEL = """
import ctypes, platform, struct
from nono_py import AccessMode, CapabilitySet, sandboxed_exec

ptrace = {"x86_64": 101, "aarch64": 117}[platform.machine()]
code = [(0x20, 0, 0, 0), (0x15, 0, 1, ptrace), (6, 0, 0, 0x50000), (6, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in code))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, program, 0, 0) == 0

caps = CapabilitySet()
caps.allow_system()
caps.allow_path(PLACE, AccessMode.READ_WRITE)
verification = caps.verify()
print(bool(verification), verification.passed)
print(*verification.failures)
try:
    sandboxed_exec(caps, ["/bin/touch", f"{PLACE}/begun"], verify=True)
except RuntimeError as error:
    print(error)
sandboxed_exec(caps, ["/bin/touch", f"{PLACE}/unverified"])
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="calls by number")
def test_nothing_is_run_in_a_sandbox_that_does_not_hold(tmp_path: Path) -> None:
    script = f"PLACE = {str(tmp_path)!r}\n{LYING_KERNEL}"
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    failure = "trace another process: NOT DENIED"
    assert said.stdout.splitlines() == [
        "False False",
        failure,
        f"the sandbox does not hold, nothing was run: {failure}",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["unverified"]


def test_a_run_can_be_verified_first(caps: CapabilitySet) -> None:
    caps.block_network()
    assert sandboxed_exec(caps, ["/bin/echo", "held"], verify=True).stdout == b"held\n"
