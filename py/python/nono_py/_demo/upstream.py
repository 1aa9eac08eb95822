"""An OpenAI-compatible service on loopback, over TLS with a certificate authority of its own."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import trustme

#: What the model "generates", token by token.
ANSWER = ("The", " key", " is", " not", " here", ",", " yet", " this", " works", ".")
#: The pace of generation, in seconds a token: slow enough to tell streaming from buffering.
PACE = 0.05


class Upstream(ThreadingHTTPServer):
    """The service. It notes for every request whether the key was right."""

    daemon_threads = True

    def __init__(self, key: str, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.expected = f"Bearer {key}"
        self.verdicts: list[bool] = []
        self.generating = threading.Event()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent: a client that fails the handshake is part of the show."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Upstream

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        is_known = self.headers.get("Authorization") == self.server.expected
        self.server.verdicts.append(is_known)
        if not is_known:
            self._answer(401, {"error": {"message": "wrong API key", "code": "invalid_api_key"}})
        elif self.path != "/v1/chat/completions":
            self._answer(404, {"error": {"message": f"nothing at {self.path}"}})
        elif json.loads(body).get("stream"):
            self._stream()
        else:
            message = {"role": "assistant", "content": "".join(ANSWER)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self._answer(200, _object("chat.completion", choice))

    def _answer(self, status: int, value: object) -> None:
        payload = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for token in ANSWER:
            choice = {"index": 0, "delta": {"content": token}, "finish_reason": None}
            self._event(json.dumps(_object("chat.completion.chunk", choice)))
            # Not to wait for anybody: this is how long the next token takes to think of.
            self.server.generating.wait(PACE)
        self._event(json.dumps(_object("chat.completion.chunk", _LAST)))
        self._event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Stay silent: the audit events tell the same."""


_LAST = {"index": 0, "delta": {}, "finish_reason": "stop"}


def _object(kind: str, choice: object) -> dict[str, object]:
    return {"id": "demo", "object": kind, "created": 0, "model": "demo", "choices": [choice]}


@contextmanager
def serving(key: str, ca_file: Path) -> Iterator[Upstream]:
    """Run the service for the length of a block; the authority's certificate is in `ca_file`."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    upstream = Upstream(key, context)
    thread = threading.Thread(
        target=upstream.serve_forever, args=(0.01,), name="upstream", daemon=True
    )
    thread.start()
    try:
        yield upstream
    finally:
        upstream.shutdown()
        upstream.server_close()
        thread.join()
