"""A server of files over TLS, as a git server or a package index may be no more than."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Files(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.keys.append(self.headers.get("Authorization"))  # type: ignore[attr-defined]
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


class Files(ThreadingHTTPServer):
    """The server, and the credentials that requests have shown it."""

    daemon_threads = True

    def __init__(self, directory: Path, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Files, directory=str(directory)))
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.keys: list[str | None] = []
        self.url = f"https://localhost:{self.server_address[1]}"


@contextmanager
def serving(directory: Path, context: ssl.SSLContext) -> Iterator[Files]:
    """Serve a directory for the length of a block."""
    server = Files(directory, context)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
