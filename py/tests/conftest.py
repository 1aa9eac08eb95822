"""Fixtures: a certificate authority, upstreams, a route with a key, and a place to run in."""

import secrets
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from nono_py import AccessMode, CapabilitySet, ProxyConfig, ProxyHandle, RouteConfig, start_proxy
from origin import Origin, running

# Names that mean nothing to this machine; a proxy on the way may know them.
FAR = ("routed.example", "other.example")


@dataclass(frozen=True)
class Authority:
    """A certificate authority and a server's context that it vouches for."""

    file: Path
    context: ssl.SSLContext


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> None:
    """Let Ctrl-C interrupt: whoever starts the tests in the background has it ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    ca = trustme.CA()
    file = tmp_path_factory.mktemp("authority") / "ca.pem"
    ca.cert_pem.write_to_path(str(file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost", "127.0.0.1", *FAR).configure_cert(context)
    return Authority(file, context)


@pytest.fixture
def origin(authority: Authority) -> Iterator[Origin]:
    """An upstream over TLS."""
    with running(authority.context) as server:
        yield server


@pytest.fixture
def plain_origin() -> Iterator[Origin]:
    """An upstream without TLS."""
    with running(None) as server:
        yield server


#: A session bus that starts no program by itself.
EMPTY_BUS = """
<busconfig>
  <type>session</type>
  <listen>unix:tmpdir=/tmp</listen>
  <policy context="default">
    <allow send_destination="*"/> <allow receive_sender="*"/> <allow own="*"/>
  </policy>
</busconfig>
"""


@dataclass(frozen=True)
class Desktop:
    """A session bus with a keyring, for the length of a program."""

    home: Path

    def run(
        self, command: list[str], *, is_open: bool = True, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run a program there; the keyring is open, or not started."""
        opening = 'printf "\\n" | gnome-keyring-daemon --unlock --components=secrets >/dev/null && '
        script = (opening if is_open else "") + 'exec "$@"'
        bus = self.home / "bus.conf"
        bus.write_text(EMPTY_BUS)
        options = [] if is_open else ["--config-file", str(bus)]
        return subprocess.run(
            ["dbus-run-session", *options, "--", "sh", "-c", script, "sh", *command],
            env={
                "PATH": f"{sys.exec_prefix}/bin:/usr/bin:/bin",
                "HOME": str(self.home),
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture
def desktop(tmp_path: Path) -> Desktop:
    programs = ("dbus-run-session", "gnome-keyring-daemon")
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    return Desktop(tmp_path)


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    """A real key, in the environment of this process as REAL_KEY."""
    value = f"sk-real-{secrets.token_hex(16)}"
    monkeypatch.setenv("REAL_KEY", value)
    return value


@pytest.fixture
def route(origin: Origin, authority: Authority, key: str) -> RouteConfig:
    """The route `/openai` to the upstream, with the key put on the way."""
    return RouteConfig(
        prefix="/openai",
        upstream=f"{origin.url}/v1",
        credential_key="env://REAL_KEY",
        env_var="OPENAI_API_KEY",
        tls_ca=authority.file,
    )


@pytest.fixture
def proxy(route: RouteConfig) -> Iterator[ProxyHandle]:
    """A proxy with that route and nothing else allowed."""
    with start_proxy(ProxyConfig(routes=[route])) as handle:
        yield handle


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where a proxy keeps its certificates: nobody else writes there."""
    made = tmp_path / "certificates"
    made.mkdir(mode=0o755)
    return made.resolve()


@pytest.fixture
def interceptor(route: RouteConfig, directory: Path) -> Iterator[ProxyHandle]:
    """A proxy that intercepts what goes to the route's upstream."""
    with start_proxy(ProxyConfig(routes=[route], intercept_ca_dir=directory)) as handle:
        yield handle


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory for a sandboxed program, without links in its path."""
    directory = tmp_path.resolve() / "place"
    directory.mkdir()
    return directory


@pytest.fixture
def caps(place: Path) -> CapabilitySet:
    """What Python needs to run, and `place` to write in."""
    granted = CapabilitySet()
    granted.allow_interpreter()
    granted.allow_path(place, AccessMode.READ_WRITE)
    return granted


@pytest.fixture
def curl_caps(place: Path) -> CapabilitySet:
    """What curl needs to run, and `place` to write in."""
    granted = CapabilitySet()
    for system in ("/usr", "/lib", "/lib64", "/etc/ssl"):
        if Path(system).is_dir():
            granted.allow_path(system, AccessMode.READ)
    granted.allow_path(place, AccessMode.READ_WRITE)
    return granted
