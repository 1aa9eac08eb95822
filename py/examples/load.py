"""How fast the proxy is here, beside the same requests without it."""

import http.client
import statistics
import threading
import time
from urllib.parse import urlsplit

import api
from nono_py import ProxyConfig, RouteConfig, start_proxy

CONNECTIONS, REQUESTS = 8, 100


def times(address: str, path: str, headers: dict[str, str]) -> list[float]:
    """Send the requests, some connections at a time, and return how long each took."""
    taken: list[float] = []

    def client() -> None:
        connection = http.client.HTTPConnection(address, timeout=60)
        for _ in range(REQUESTS):
            begin = time.perf_counter()
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            response.read()
            assert response.status == 200
            taken.append(time.perf_counter() - begin)
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken


with api.running() as upstream:
    route = RouteConfig("/model", upstream)
    with start_proxy(ProxyConfig(routes=[route])) as proxy:
        token = {"Authorization": "Bearer " + proxy.env_vars()["NONO_PROXY_TOKEN"]}
        ways: dict[str, tuple[str, str, dict[str, str]]] = {
            "direct": (urlsplit(upstream).netloc, "/v1", {}),
            "through the proxy": (proxy.address, "/model/v1", token),
        }
        # In alternating rounds, so that whatever else the machine does meets both.
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(3):
            for name, way in ways.items():
                taken[name] += times(*way)
        for name, found in taken.items():
            hundredths = statistics.quantiles(found, n=100)
            middle, slowest = hundredths[49] * 1e3, hundredths[98] * 1e3
            rate = CONNECTIONS / statistics.fmean(found)
            print(f"{name}: {rate:.0f} a second, middle {middle:.2f} ms, p99 {slowest:.2f} ms")
        records = proxy.drain_audit_objects()
        assert len(records) == len(taken["through the proxy"])
