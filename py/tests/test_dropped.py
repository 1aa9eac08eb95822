"""Proxies that nobody holds any more."""

import gc
import http.client
import socket
import threading
import weakref
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from operator import methodcaller

import pytest
from nono_py import ProxyConfig, RouteConfig, start_proxy


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_other_threads_go_on_while_a_dropped_proxy_waits_for_its_collector() -> None:
    answers: list[int] = []
    ports: list[int] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            # The proxy is being dropped when this ends, and waits for the answer.
            while is_open(ports[0]):
                pass
            answers.append(200)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        holder = [start_proxy(ProxyConfig(otlp_endpoint=endpoint, otlp_flush_secs=10))]
        ports.append(holder[0].port)
        client = http.client.HTTPConnection(holder[0].address, timeout=20)
        client.request("GET", "/none")
        assert client.getresponse().status == 401
        client.close()
        # In one step of the interpreter's, so that what is there then came while it was dropped.
        _, answered = map(methodcaller("__call__"), [holder.clear, answers.copy])
        server.shutdown()
        thread.join()
    assert answered


class Owner:
    """Something with a key, that knows whom it has given it to."""

    given_to: object

    def key(self) -> str:
        return "sk-1"


def route(owner: Owner) -> RouteConfig:
    return RouteConfig("/api", "http://127.0.0.1:9", credential=owner.key)


@pytest.mark.parametrize(
    "give",
    [
        route,
        lambda owner: ProxyConfig(routes=[route(owner)]),
        lambda owner: start_proxy(ProxyConfig(routes=[route(owner)])),
    ],
    ids=["route", "config", "proxy"],
)
def test_what_knows_its_credential_and_is_known_to_it_is_collected(
    give: Callable[[Owner], object],
) -> None:
    owner = Owner()
    owner.given_to = give(owner)
    port = getattr(owner.given_to, "port", None)
    assert port is None or is_open(port)
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None
    assert port is None or not is_open(port)


def test_a_proxy_holds_the_callable_that_it_asks() -> None:
    asked = threading.Event()

    def key() -> str:
        asked.set()
        return "sk-1"

    config = ProxyConfig(routes=[RouteConfig("/api", "http://127.0.0.1:9", credential=key)])
    with start_proxy(config) as proxy:
        del config, key
        gc.collect()
        asked.clear()
        assert proxy.reload_credentials() == []
        assert asked.is_set()
