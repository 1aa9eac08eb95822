"""A WebSocket client that knows of the proxy by its environment alone."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from conftest import Authority
from inside import needs
from nono_py import ProxyConfig, RouteConfig, start_proxy
from websockets.sync.server import ServerConnection, serve

if TYPE_CHECKING:
    from nono_py._nono_py import NetworkAuditEvent

CLIENT = """
import ssl, sys
from websockets.sync.client import connect
with connect(sys.argv[1], ssl=ssl.create_default_context()) as socket:
    socket.send("ping")
    print(socket.recv())
"""

# Over HTTP/2, by extended CONNECT (RFC 8441): one masked text frame there, one frame back.
NODE = """
const http = require('http'), http2 = require('http2'), tls = require('tls');
const fail = error => { console.error(error); process.exit(1); };
const proxy = new URL(process.env.HTTPS_PROXY), url = new URL(process.argv[1]);
const login = Buffer.from(`${proxy.username}:${proxy.password}`).toString('base64');
http.request({host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: url.host,
              headers: {'Proxy-Authorization': `Basic ${login}`}})
  .on('connect', (_, socket) => {
    const secured = tls.connect({socket, servername: url.hostname, ALPNProtocols: ['h2']});
    const session = http2.connect(url.origin, {createConnection: () => secured});
    session.on('error', fail).on('remoteSettings', settings => {
      if (!settings.enableConnectProtocol) fail('the protocol is not offered');
      const stream = session.request({
        ':method': 'CONNECT', ':protocol': 'websocket', ':scheme': 'https',
        ':path': url.pathname, ':authority': url.host, 'sec-websocket-version': '13',
      });
      stream.on('error', fail).on('response', answer => {
        if (answer[':status'] !== 200) fail(answer);
        const mask = Buffer.from([1, 2, 3, 4]), text = Buffer.from('ping');
        stream.write(Buffer.concat([Buffer.from([0x81, 0x80 | text.length]), mask,
                                    text.map((byte, n) => byte ^ mask[n % 4])]));
      }).on('data', frame => {
        console.log(frame.subarray(2).toString());
        session.destroy();
      });
    });
  }).end();
"""


def talk(
    authority: Authority, directory: Path, scheme: str, *command: str
) -> "tuple[list[list[str]], list[NetworkAuditEvent]]":
    """Run a client against a server that echoes; return the keys that it saw, and the events."""
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
        with start_proxy(ProxyConfig(routes=[route], intercept_ca_dir=directory)) as proxy:
            env = {"PATH": os.environ["PATH"], **proxy.env_vars()}
            whole = [*command, f"{scheme}://{host}/chat"]
            done = subprocess.run(whole, env=env, capture_output=True, text=True, timeout=60)
            assert done.stdout == "ping back\n", done.stderr
        server.shutdown()
        thread.join()
    return keys, [event for event in proxy.drain_audit_events() if event["path"] == "/chat"]


def test_messages_pass_and_the_key_is_put_on(
    authority: Authority, key: str, tmp_path: Path
) -> None:
    keys, events = talk(authority, tmp_path, "wss", sys.executable, "-c", CLIENT)
    assert keys == [[f"Bearer {key}"]]
    assert 101 in {event["status"] for event in events}


@needs("node")
def test_over_http2_it_is_translated_for_a_server_that_knows_of_none(
    authority: Authority, key: str, tmp_path: Path
) -> None:
    keys, events = talk(authority, tmp_path, "https", "node", "-e", NODE)
    assert keys == [[f"Bearer {key}"]]
    assert {event["protocol"] for event in events if event["status"] == 101} == {"h2"}
