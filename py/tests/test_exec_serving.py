"""Where sandboxed programs may be reached."""

import socket
import sys
from collections.abc import Callable

import pytest
from nono_py import CapabilitySet, sandboxed_exec

#: Serves at the port that a connection was made from, whatever came of that.
SERVE = """
import ctypes, errno, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
for port in sys.argv[1:]:
    for is_disconnected in (False, True):
        with socket.socket() as one:
            made = one.connect_ex(("127.0.0.1", int(port)))
            if is_disconnected:
                libc.connect(one.fileno(), struct.pack("H14x", 0), 16)
            try:
                one.listen()
            except OSError as error:
                print(made in (0, errno.ECONNREFUSED), errno.errorcode[error.errno])
            else:
                print("serves at", one.getsockname())
"""


@pytest.fixture
def caps() -> CapabilitySet:
    caps = CapabilitySet()
    caps.allow_interpreter()
    return caps


def only_to(caps: CapabilitySet, ports: list[int]) -> None:
    for port in ports:
        caps.allow_tcp_connect_port(port)


def blocked_but_to(caps: CapabilitySet, ports: list[int]) -> None:
    caps.block_network()
    only_to(caps, ports)


def blocked_but_here(caps: CapabilitySet, ports: list[int]) -> None:
    caps.block_network()
    for port in ports:
        caps.allow_localhost_port(port)


@pytest.mark.parametrize("limit", [only_to, blocked_but_to, blocked_but_here])
def test_a_program_that_may_connect_does_not_serve_where_it_connects_from(
    caps: CapabilitySet, limit: Callable[[CapabilitySet, list[int]], None]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in (server, silent)]
        limit(caps, ports)
        ran = sandboxed_exec(caps, [sys.executable, "-c", SERVE, *map(str, ports)])
    said = ran.stdout.decode().splitlines()
    assert len(said) == 4, ran.stderr
    # A socket that is connected cannot listen anyway.
    assert all(line in ("True EACCES", "True EINVAL") for line in said), said
    assert said.count("True EACCES") >= 3


@pytest.mark.parametrize("limit", ["bind", "localhost"])
def test_a_program_serves_where_it_may(caps: CapabilitySet, limit: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    caps.block_network()
    if limit == "bind":
        caps.allow_bind_port(port)
    else:
        caps.allow_localhost_port(port)
    serve = f"""
import socket
with socket.create_server(("127.0.0.1", {port})) as server:
    server.listen(7)
    print(server.getsockname())
"""
    ran = sandboxed_exec(caps, [sys.executable, "-c", serve])
    assert ran.stdout.decode().strip() == f"('127.0.0.1', {port})", ran.stderr
