"""A WebSocket client that knows of the proxy by its environment alone."""

import os
import subprocess
import sys
import threading
from pathlib import Path

from conftest import Authority
from nono_py import ProxyConfig, RouteConfig, start_proxy
from websockets.sync.server import ServerConnection, serve

CLIENT = """
import ssl, sys
from websockets.sync.client import connect
with connect(sys.argv[1], ssl=ssl.create_default_context()) as socket:
    socket.send("ping")
    print(socket.recv())
"""


def test_messages_pass_and_the_key_is_put_on(
    authority: Authority, key: str, tmp_path: Path
) -> None:
    keys: list[list[str]] = []

    def echo(connection: ServerConnection) -> None:
        assert connection.request is not None
        keys.append(connection.request.headers.get_all("Authorization"))
        for message in connection:
            connection.send(f"{message!s} back")

    with serve(echo, "127.0.0.1", 0, ssl=authority.context) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        host = f"localhost:{server.socket.getsockname()[1]}"
        route = RouteConfig(
            "/ws", f"https://{host}", credential_key="env://REAL_KEY", tls_ca=authority.file
        )
        with start_proxy(ProxyConfig(routes=[route], intercept_ca_dir=tmp_path)) as proxy:
            env = {"PATH": os.environ["PATH"], **proxy.env_vars()}
            command = [sys.executable, "-c", CLIENT, f"wss://{host}/chat"]
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
            assert done.stdout == "ping back\n", done.stderr
        server.shutdown()
        thread.join()
    assert keys == [[f"Bearer {key}"]]
    events = proxy.drain_audit_events()
    assert 101 in {event["status"] for event in events if event["path"] == "/chat"}
