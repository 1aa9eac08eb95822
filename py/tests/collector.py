"""A collector of OpenTelemetry: a plain HTTP server that decodes what it is sent."""

import contextlib
import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass
class Taken:
    """What was sent, by all collectors that it was sent to."""

    #: The messages as they came.
    bodies: list[bytes] = field(default_factory=list)
    #: The headers of their requests, by lower-case name.
    headers: list[dict[str, str]] = field(default_factory=list)
    logs: list[Any] = field(default_factory=list)
    spans: list[Any] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    scopes: list[tuple[str, str]] = field(default_factory=list)

    def add(self, path: str, body: bytes, headers: dict[str, str]) -> None:
        """Decode one request."""
        self.bodies.append(body)
        self.headers.append(headers)
        if path == "/v1/logs":
            for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
                self.resources.append(attributes(resource.resource))
                for scope in resource.scope_logs:
                    self.scopes.append((scope.scope.name, scope.schema_url))
                    self.logs += scope.log_records
        elif path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(attributes(resource.resource))
                for scope in resource.scope_spans:
                    self.scopes.append((scope.scope.name, scope.schema_url))
                    self.spans += scope.spans

    def sequences(self) -> list[int]:
        """Return which records came as logs, in the order in which they came."""
        return [attributes(log)["nono.sequence"] for log in self.logs]


def attributes(message: Any) -> dict[str, Any]:
    """Return the attributes of a message by name."""
    found = {}
    for pair in message.attributes:
        assert pair.key not in found, f"{pair.key} is there twice"
        found[pair.key] = getattr(pair.value, pair.value.WhichOneof("value"))
    return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_POST(self) -> None:
        body = self._body()
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.server.lock:
            if self.server.react() == 200:
                self.server.taken.add(self.path, body, headers)
        self.send_response(self.server.react())
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        return gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, taken: Taken, react: Callable[[], int]) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.taken = taken
        self.react = react
        self.lock = threading.Lock()
        self.open: list[socket.socket] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection, and remember it."""
        self.open.append(request)
        super().process_request(request, client_address)

    def stop(self) -> None:
        """Stop as a process does that ends: no connection goes on."""
        self.shutdown()
        self.server_close()
        for connection in self.open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent about connections that were cut."""


@contextmanager
def collecting(
    taken: Taken, port: int = 0, react: Callable[[], int] = lambda: 200
) -> Iterator[str]:
    """Collect for the length of a block, and say where; `react` gives the status of answers."""
    server = _Server(port, taken, react)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.stop()
        thread.join()
