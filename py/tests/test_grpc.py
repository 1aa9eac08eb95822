"""A gRPC client and server, which need HTTP/2 with trailers all the way."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trustme
from nono_py import ProxyConfig, RouteConfig, start_proxy

grpc: Any = pytest.importorskip("grpc")

CLIENT = """
import sys, grpc
channel = grpc.secure_channel(sys.argv[1], grpc.ssl_channel_credentials())
said = channel.unary_stream("/demo.Echo/Say")(b"hello", timeout=20)
print(b" ".join(said).decode())
try:
    channel.unary_unary("/demo.Echo/Fail")(b"", timeout=20)
except grpc.RpcError as error:
    print(error.code().name, error.details())
"""


class Echo(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Says everything twice; keeps the credentials that it was shown."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def service(self, call: Any) -> Any:
        self.keys += [value for name, value in call.invocation_metadata if name == "authorization"]
        if call.method == "/demo.Echo/Fail":
            return grpc.unary_unary_rpc_method_handler(self._fail)
        return grpc.unary_stream_rpc_method_handler(lambda said, _: iter([said, said]))

    def _fail(self, _: bytes, context: Any) -> bytes:
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not so")
        return b""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Echo, int, Path]]:
    """A gRPC server, its port, and the authority that vouches for it."""
    ca = trustme.CA()
    file = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(file))
    identity = ca.issue_cert("localhost")
    chain = b"".join(pem.bytes() for pem in identity.cert_chain_pems)
    login = grpc.ssl_server_credentials([(identity.private_key_pem.bytes(), chain)])
    echo = Echo()
    serving = grpc.server(ThreadPoolExecutor(2), handlers=[echo])
    port = serving.add_secure_port("127.0.0.1:0", login)
    serving.start()
    try:
        yield echo, port, file
    finally:
        serving.stop(None).wait()


def test_calls_get_the_key_and_their_status_comes_back(
    server: tuple[Echo, int, Path], key: str, tmp_path: Path
) -> None:
    echo, port, authority = server
    target = f"localhost:{port}"
    route = RouteConfig(
        "/grpc", f"https://{target}", credential_key="env://REAL_KEY", tls_ca=authority
    )
    with start_proxy(ProxyConfig(routes=[route], intercept_ca_dir=tmp_path)) as proxy:
        command = [sys.executable, "-c", CLIENT, target]
        env = {"PATH": os.environ["PATH"], **proxy.env_vars()}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        assert done.stdout.split("\n")[:2] == ["hello hello", "FAILED_PRECONDITION not so"], done
    assert echo.keys == [f"Bearer {key}"] * 2
    events = [event for event in proxy.drain_audit_events() if event["method"] == "POST"]
    assert [event["path"] for event in events] == ["/demo.Echo/Say", "/demo.Echo/Fail"]
