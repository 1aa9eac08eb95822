"""An upstream that remembers what it was sent, and that says nothing before it is told to."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import shapes

TOKENS = ("one", " two", " three")
#: Long enough for a busy machine; passing tests never wait for it.
PATIENCE = 20.0


@dataclass(frozen=True)
class Request:
    """A request as it arrived."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        """Return the values of a header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def __contains__(self, secret: str) -> bool:
        return secret in repr(self)


class Origin(ThreadingHTTPServer):
    """The server; `tokens` is released once for every token of a stream that may be sent."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scheme = "https" if context else "http"
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.requests: list[Request] = []
        self.tokens = threading.Semaphore(0)
        #: The keys that it takes; all, if it says none.
        self.valid: set[str] | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"{self.scheme}://localhost:{self.port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent about clients that do not trust this server."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Origin

    def do_GET(self) -> None:
        self._answer(b"hello", "text/plain")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        shape = shapes.of(self.path)
        if shapes.is_streamed(self.path, body):
            self._stream(shape, body)
        else:
            payload = json.dumps(shape.whole("".join(TOKENS)))
            self._answer(payload.encode(), "application/json", body)

    def _answer(self, payload: bytes, kind: str, body: bytes = b"") -> None:
        self._note(body)
        valid = self.server.valid
        key = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.send_response(200 if valid is None or key in valid else 401)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def _stream(self, shape: shapes.Shape, body: bytes) -> None:
        self._note(body)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        before = shape.opening
        for token in TOKENS:
            if not self.server.tokens.acquire(timeout=PATIENCE):
                return
            self._chunk(before + shape.piece(token))
            before = b""
        if shape.closing:
            self._chunk(shape.closing)
        self._chunk(b"")

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(content), content))
        self.wfile.flush()

    def _note(self, body: bytes) -> None:
        request = Request(self.command, self.path, list(self.headers.items()), body)
        self.server.requests.append(request)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def running(context: ssl.SSLContext | None) -> Iterator[Origin]:
    """Serve for the length of a block, over TLS if there is a context for it."""
    origin = Origin(context)
    # The interval is how long the end of the block may take to be seen.
    thread = threading.Thread(target=origin.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield origin
    finally:
        origin.shutdown()
        origin.server_close()
        thread.join()
