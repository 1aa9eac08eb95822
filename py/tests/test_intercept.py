"""Interception: what it writes, who may read it, and how it is configured."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from inside import needs, run
from nono_py import (
    CapabilitySet,
    ProxyConfig,
    ProxyHandle,
    RouteConfig,
    sandboxed_exec,
    sandboxed_exec_async,
    start_proxy,
)
from origin import Origin


@pytest.fixture
def proxy(interceptor: ProxyHandle) -> ProxyHandle:
    """Every proxy here intercepts."""
    return interceptor


#: A proxy that says when it runs, and is killed.
KILLED = """
import sys
from nono_py import ProxyConfig, start_proxy
proxy = start_proxy(ProxyConfig(intercept_ca_dir=sys.argv[1], intercept_hosts=["a.example"]))
print("runs", flush=True)
sys.stdin.read()
"""


def test_what_a_killed_proxy_left_is_removed_by_the_next(directory: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"runs\n"
        left = set(directory.iterdir())
        assert len(left) == 3
        config = ProxyConfig(intercept_ca_dir=directory, intercept_hosts=["a.example"])
        with start_proxy(config):
            assert left < set(directory.iterdir()), "it runs still"
        killed.kill()
        killed.wait()
        assert set(directory.iterdir()) == left
        with start_proxy(config):
            assert not left & set(directory.iterdir())
    assert list(directory.iterdir()) == []


@needs("openssl", "curl")
def test_an_authority_of_the_users_own_vouches_for_the_proxy(
    route: RouteConfig, directory: Path, origin: Origin, key: str, tmp_path: Path
) -> None:
    cert, private = tmp_path / "ca.pem", tmp_path / "ca.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"]
    command += ["-subj", "/O=Example/CN=Example CA", "-out", str(cert), "-keyout", str(private)]
    subprocess.run(command, check=True, capture_output=True)
    private.chmod(0o600)
    config = ProxyConfig(
        routes=[route],
        intercept_ca_dir=directory,
        intercept_ca_cert=cert,
        intercept_ca_key=private,
    )
    assert (config.intercept_ca_cert, config.intercept_ca_key) == (cert, private)
    secret = "".join(private.read_text().split("\n")[1:-2])
    with start_proxy(config) as proxy:
        url = f"{origin.url}/v1/models"
        # By the proxy's bundle, and by what the user hands out.
        assert run(proxy, "curl", "-sS", url) == "hello"
        assert run(proxy, "curl", "-sS", "--cacert", str(cert), url) == "hello"
        for file in directory.iterdir():
            assert b"PRIVATE" not in file.read_bytes()
            assert secret[:64].encode() not in file.read_bytes()
    assert [request.values("Authorization") for request in origin.requests] == [
        [f"Bearer {key}"],
        [f"Bearer {key}"],
    ]
    private.chmod(0o640)
    with pytest.raises(ValueError, match="chmod 600"):
        ProxyConfig(intercept_ca_dir=directory, intercept_ca_cert=cert, intercept_ca_key=private)


@needs("curl")
def test_in_the_sandbox_the_certificates_can_be_read(
    proxy: ProxyHandle, origin: Origin, place: Path, key: str, curl_caps: CapabilitySet
) -> None:
    curl_caps.proxy_only(proxy)
    command = ["curl", "-sS", "--max-time", "20", f"{origin.url}/v1/models"]
    done = sandboxed_exec(curl_caps, command, cwd=place, env=proxy.sandbox_env())
    assert (done.exit_code, done.stdout) == (0, b"hello"), done.stderr
    assert origin.requests[0].values("Authorization") == [f"Bearer {key}"]


@needs("curl")
def test_a_proxy_that_is_given_with_the_command_lets_its_certificates_be_read(
    proxy: ProxyHandle, origin: Origin, place: Path, key: str, curl_caps: CapabilitySet
) -> None:
    # Also where the set is blocked: it is this one way that is opened.
    curl_caps.block_network()
    granted = len(curl_caps.fs_capabilities())
    command = ["curl", "-sS", "--max-time", "20", f"{origin.url}/v1/models"]
    done = sandboxed_exec(curl_caps, command, cwd=place, proxy=proxy)
    assert (done.exit_code, done.stdout) == (0, b"hello"), done.stderr
    done = asyncio.run(sandboxed_exec_async(curl_caps, command, cwd=place, proxy=proxy))
    assert (done.exit_code, done.stdout) == (0, b"hello"), done.stderr
    assert len(curl_caps.fs_capabilities()) == granted


def test_the_files_go_with_the_proxy_and_hold_no_key(proxy: ProxyHandle, directory: Path) -> None:
    written = list(directory.iterdir())
    assert {str(file) for file in written} >= {
        proxy.env_vars()["SSL_CERT_FILE"],
        proxy.env_vars()["NODE_EXTRA_CA_CERTS"],
    }
    for file in written:
        assert file.stat().st_mode & 0o777 == 0o444
        assert b"PRIVATE" not in file.read_bytes()
    proxy.shutdown()
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_a_directory_that_others_can_write_to_is_refused(directory: Path, mode: int) -> None:
    directory.chmod(mode)
    with pytest.raises(ValueError, match=r"intercept_ca_dir.*others can write"):
        start_proxy(ProxyConfig(intercept_ca_dir=directory))


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"intercept_ca_dir.*No such file"):
        start_proxy(ProxyConfig(intercept_ca_dir=tmp_path / "missing"))


@pytest.mark.parametrize(
    "option",
    [
        {"intercept_parent_ca_pems": b"x"},
        {"intercept_hosts": ["a.example"]},
        {"intercept_exclude": ["a.example"]},
        {"intercept_name_constraints": True},
    ],
)
def test_what_is_said_of_interception_needs_the_directory(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="need intercept_ca_dir"):
        ProxyConfig(**option)


def test_what_is_intercepted_can_be_read_back(directory: Path) -> None:
    config = ProxyConfig(
        intercept_ca_dir=str(directory),
        intercept_hosts=["*.a.example"],
        intercept_exclude=["pinned.a.example"],
        intercept_name_constraints=True,
    )
    assert config.intercept_ca_dir == directory
    assert config.intercept_hosts == ["*.a.example"]
    assert config.intercept_exclude == ["pinned.a.example"]
    assert config.intercept_name_constraints is True
    plain = ProxyConfig()
    assert (plain.intercept_ca_dir, plain.intercept_hosts) == (None, [])
