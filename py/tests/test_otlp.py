"""Records on their way to a collector of OpenTelemetry."""

import http.client
import importlib.util
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from client import get
from collector import Taken, attributes, collecting
from nono_py import ProxyConfig, ProxyHandle, RouteConfig, start_proxy
from origin import Origin

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"

#: How long the collector is away; set it to 30 for a long outage.
OUTAGE = float(os.environ.get("NONO_TEST_OUTAGE_SECS", "2"))


def ask(proxy: ProxyHandle, path: str, **headers: str) -> int:
    """Ask a route for a path as an instrumented client does."""
    connection = http.client.HTTPConnection(proxy.address, timeout=20)
    login = {"Authorization": f"Bearer {proxy.env_vars()['NONO_PROXY_TOKEN']}"}
    connection.request("GET", path, headers={**login, **headers})
    status = connection.getresponse().status
    connection.close()
    return status


def test_what_a_client_did_arrives_as_logs_and_spans(
    route: RouteConfig, origin: Origin, key: str
) -> None:
    taken = Taken()
    with (
        collecting(taken) as endpoint,
        start_proxy(
            ProxyConfig(
                routes=[route],
                otlp_endpoint=endpoint,
                otlp_service_name="agents",
                otlp_resource_attributes={"deployment.environment.name": "test"},
            )
        ) as proxy,
    ):
        token = proxy.env_vars()["NONO_PROXY_TOKEN"]
        began = time.time_ns()
        status = ask(
            proxy,
            f"/openai/models?key={token}&page=2",
            traceparent=f"00-{TRACE}-{PARENT}-01",
            tracestate="vendor=1",
        )
        assert status == 200
        assert ask(proxy, "/none") == 404
        proxy.shutdown()
        assert proxy.diagnostics() == []
        ended = time.time_ns()
        records = proxy.drain_audit_events()

    for body in taken.bodies:
        assert key.encode() not in body
        assert token.encode() not in body
    assert set(taken.scopes) == {("nono", "https://opentelemetry.io/schemas/1.42.0")}
    for resource in taken.resources:
        assert resource["service.name"] == "agents"
        assert resource["service.instance.id"] == records[0]["session"]
        assert resource["deployment.environment.name"] == "test"

    span, refused = taken.spans
    (seen,) = origin.requests
    passed = f"00-{TRACE}-{span.span_id.hex()}-01"
    assert (seen.values("traceparent"), seen.values("tracestate")) == ([passed], ["vendor=1"])
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert (span.name, span.kind) == ("GET /openai/*", span.SPAN_KIND_SERVER)
    assert span.status.code == span.status.STATUS_CODE_UNSET
    # A record's beginning is in whole milliseconds.
    assert began - 1_000_000 <= span.start_time_unix_nano < span.end_time_unix_nano <= ended
    found = attributes(span)
    expected = {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.response.body.size": 5,
        "http.route": "/openai/*",
        "network.protocol.name": "http",
        "network.protocol.version": "1.1",
        "server.address": "localhost",
        "server.port": origin.port,
        "url.path": "/openai/models",
        "url.query": "key=[redacted]&page=2",
        "url.scheme": "http",
        "client.address": "127.0.0.1",
        "nono.id": records[0]["id"],
        "nono.decision": "allow",
        "nono.outcome": "complete",
    }
    assert {name: found.get(name) for name in expected} == expected
    assert "error.type" not in found

    assert (refused.name, refused.parent_span_id) == ("GET", b"")
    assert refused.trace_id != span.trace_id
    assert attributes(refused)["nono.denial_category"] == "unknown_route"

    assert [(log.trace_id, log.span_id) for log in taken.logs] == [
        (span.trace_id, span.span_id),
        (refused.trace_id, refused.span_id),
    ]
    assert [log.severity_text for log in taken.logs] == ["INFO", "WARN"]
    for log, record in zip(taken.logs, records, strict=True):
        found = attributes(log)
        for name, value in record.items():
            if f"nono.{name}" in found:
                assert found[f"nono.{name}"] == value
        assert found["nono.session"] == record["session"]
    assert taken.logs[0].event_name == "nono.exchange"


def test_what_happens_inside_a_tunnel_has_a_span_of_its_own(
    plain_origin: Origin,
) -> None:
    taken = Taken()
    host = f"localhost:{plain_origin.port}"
    with (
        collecting(taken) as endpoint,
        start_proxy(ProxyConfig(allowed_hosts=[host], otlp_endpoint=endpoint)) as proxy,
    ):
        connection = http.client.HTTPConnection(proxy.address, timeout=20)
        token = proxy.env_vars()["NONO_PROXY_TOKEN"]
        login = {"Proxy-Authorization": f"Bearer {token}"}
        connection.set_tunnel("localhost", plain_origin.port, login)
        connection.request("GET", "/x", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
        assert connection.getresponse().read() == b"hello"
        connection.close()
    (seen,) = plain_origin.requests
    assert seen.values("traceparent") == [f"00-{TRACE}-{PARENT}-01"], "it is not ours to read"
    assert [log.event_name for log in taken.logs] == ["nono.tunnel.opened", "nono.exchange"]
    (span,) = taken.spans
    assert span.name == "CONNECT"
    assert {log.span_id for log in taken.logs} == {span.span_id}
    found = attributes(span)
    assert (found["server.address"], found["server.port"]) == ("localhost", plain_origin.port)
    assert found["nono.bytes_out"] > 0
    assert "url.path" not in found


def test_a_collector_that_is_stopped_gets_everything_when_it_is_back() -> None:
    taken = Taken()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    stop = threading.Event()
    asked = [0] * 4

    def load(proxy: ProxyHandle, number: int) -> None:
        while not stop.is_set():
            assert get(proxy, f"/none/{number}").status == 404
            asked[number] += 1

    config = ProxyConfig(otlp_endpoint=f"http://127.0.0.1:{port}", otlp_flush_secs=30)
    with start_proxy(config) as proxy:
        threads = [threading.Thread(target=load, args=(proxy, n)) for n in range(len(asked))]
        with collecting(taken, port):
            for thread in threads:
                thread.start()
            wait_until(lambda: len(taken.logs) > 100)
        gone = time.monotonic()
        wait_until(lambda: "otlp_unavailable" in codes(proxy))
        away = len(taken.logs)
        # The load goes on meanwhile.
        stop.wait(max(0.0, OUTAGE - (time.monotonic() - gone)))
        assert len(taken.logs) == away
        before = sum(asked)
        with collecting(taken, port):
            wait_until(lambda: len(taken.logs) > before)
            stop.set()
            for thread in threads:
                thread.join()
            proxy.shutdown()
        assert proxy.diagnostics() == []
    assert sum(asked) > away
    sequences = taken.sequences()
    # One that the collector took and could not confirm comes again.
    assert sorted(set(sequences)) == list(range(sum(asked)))
    assert len(sequences) - len(set(sequences)) <= 2048
    assert len({span.span_id for span in taken.spans}) == sum(asked)


def codes(proxy: ProxyHandle) -> list[str]:
    return [found["code"] for found in proxy.diagnostics()]


def wait_until(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_collector_is_shown_a_key_that_is_only_referred_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLLECTOR_KEY", "hush-hush-0123456789")
    taken = Taken()
    with collecting(taken) as endpoint:
        config = ProxyConfig(
            otlp_endpoint=endpoint,
            otlp_headers={"Authorization": "Bearer {}", "X-Scope-OrgID": "me"},
            otlp_credential_key="env://COLLECTOR_KEY",
        )
        assert "hush" not in repr(config)
        with start_proxy(config) as proxy:
            get(proxy, "/none")
    for headers in taken.headers:
        assert headers["authorization"] == "Bearer hush-hush-0123456789"
        assert (headers["x-scope-orgid"], headers["user-agent"][:5]) == ("me", "nono/")
    assert len(taken.headers) == 2


def test_what_a_collector_did_not_take_is_said_at_the_end() -> None:
    taken = Taken()
    with collecting(taken, react=lambda: 503) as endpoint:
        with start_proxy(ProxyConfig(otlp_endpoint=endpoint, otlp_flush_secs=0.3)) as proxy:
            get(proxy, "/none")
        (found,) = proxy.diagnostics()
    assert (found["code"], found["route_prefix"]) == ("otlp_undelivered", "otlp")
    assert "1 records" in found["message"]
    assert "503" in found["message"]
    assert taken.logs == []


#: A proxy whose collector is away; it says where it is, and is killed.
VICTIM = """
import sys
from nono_py import ProxyConfig, start_proxy
config = ProxyConfig(
    require_auth=False, otlp_endpoint="http://127.0.0.1:9", otlp_queue_dir=sys.argv[1]
)
proxy = start_proxy(config)
print(proxy.address, flush=True)
sys.stdin.read()
"""


def test_records_of_a_killed_process_are_delivered_by_the_next(tmp_path: Path) -> None:
    queue = tmp_path / "queue"
    command = [sys.executable, "-c", VICTIM, str(queue)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        address = process.stdout.readline().decode().strip()
        for n in range(50):
            connection = http.client.HTTPConnection(address, timeout=20)
            connection.request("GET", f"/none/{n}")
            assert connection.getresponse().status == 404
            connection.close()
        wait_until(
            lambda: sum(file.read_bytes().count(b"\n") for file in queue.glob("*.ndjson")) == 51
        )
        process.kill()
    taken = Taken()
    with collecting(taken) as endpoint:
        config = ProxyConfig(otlp_endpoint=endpoint, otlp_queue_dir=queue)
        with start_proxy(config) as proxy:
            with pytest.raises(RuntimeError, match="being written there already"):
                start_proxy(config)
            get(proxy, "/none")
            proxy.shutdown()
            assert proxy.diagnostics() == []
            (own,) = proxy.drain_audit_events()
    assert taken.sequences() == [*range(50), 0]
    sessions = [attributes(log)["nono.session"] for log in taken.logs]
    assert sessions[-1] == own["session"]
    assert len(set(sessions)) == 2
    assert len(taken.spans) == 51
    assert {headers["content-encoding"] for headers in taken.headers} == {"gzip"}


def test_options_are_judged_at_construction_and_can_be_read_back(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="otlp_endpoint"):
        ProxyConfig(otlp_service_name="agents")
    with pytest.raises(ValueError, match="otlp_endpoint"):
        ProxyConfig(otlp_endpoint="127.0.0.1:4318")
    with pytest.raises(ValueError, match="otlp_timeout_secs"):
        ProxyConfig(otlp_endpoint="http://127.0.0.1:4318", otlp_timeout_secs=0)
    with pytest.raises(ValueError, match="otlp_credential_key") as caught:
        ProxyConfig(
            otlp_endpoint="http://127.0.0.1:4318", otlp_headers=[("Authorization", "sesame")]
        )
    assert "sesame" not in str(caught.value)
    with pytest.raises(ValueError, match="otlp_tls_ca"):
        ProxyConfig(otlp_endpoint="https://localhost", otlp_tls_ca=tmp_path / "none.pem")
    config = ProxyConfig(
        otlp_endpoint="http://127.0.0.1:4318/tenant",
        otlp_headers=[("X-Key", "{}")],
        otlp_credential_key="env://K",
        otlp_resource_attributes={"team": "a"},
    )
    assert config.otlp_endpoint == "http://127.0.0.1:4318/tenant"
    assert config.otlp_headers == {"X-Key": "{}"}
    assert config.otlp_credential_key == "env://K"
    assert (config.otlp_service_name, config.otlp_resource_attributes) == ("nono", {"team": "a"})
    assert (config.otlp_timeout_secs, config.otlp_flush_secs) == (10, 5)
    assert config.otlp_tls_ca is None
    assert (config.otlp_compression, config.otlp_queue_dir, config.otlp_queue_bytes) == (
        "gzip",
        None,
        None,
    )
    config = ProxyConfig(
        otlp_endpoint="http://127.0.0.1:4318",
        otlp_compression="none",
        otlp_queue_dir=tmp_path / "queue",
    )
    assert (config.otlp_compression, config.otlp_queue_dir, config.otlp_queue_bytes) == (
        "none",
        tmp_path / "queue",
        256 << 20,
    )
    assert not (tmp_path / "queue").exists(), "nothing is made before a proxy starts"
    for wrong in (
        {"otlp_compression": "zstd"},
        {"otlp_queue_bytes": 1 << 20},
        {"otlp_queue_dir": tmp_path, "otlp_queue_bytes": 1000},
    ):
        with pytest.raises(ValueError, match=list(wrong)[-1]):
            ProxyConfig(otlp_endpoint="http://127.0.0.1:4318", **wrong)
    off = ProxyConfig()
    assert (off.otlp_endpoint, off.otlp_headers, off.otlp_flush_secs) == (None, {}, None)


def test_a_collector_is_reached_whatever_clients_may_reach() -> None:
    taken = Taken()
    with collecting(taken) as endpoint:
        host = urlsplit(endpoint).hostname or ""
        config = ProxyConfig(denied_hosts=[host], otlp_endpoint=endpoint)
        with start_proxy(config) as proxy:
            get(proxy, "/none")
    assert taken.sequences() == [0]


def agent() -> Path | None:
    """Find the collector that `pip install rotel` brings, where there is one."""
    found = importlib.util.find_spec("rotel")
    return Path(found.origin).with_name("rotel-agent") if found and found.origin else None


@pytest.mark.skipif(agent() is None, reason="rotel, a collector, is not installed")
def test_a_collector_of_others_passes_on_what_it_is_sent(tmp_path: Path) -> None:
    taken = Taken()
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(free.getsockname()[1])
    with collecting(taken) as behind:
        command = [str(agent()), "start", "--exporter", "otlp", "--otlp-exporter-protocol", "http"]
        command += ["--otlp-http-endpoint", f"127.0.0.1:{ports[0]}"]
        command += ["--otlp-grpc-endpoint", f"127.0.0.1:{ports[1]}"]
        command += ["--otlp-exporter-endpoint", behind]
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
            try:
                config = ProxyConfig(otlp_endpoint=f"http://127.0.0.1:{ports[0]}")
                with start_proxy(config) as proxy:
                    # It takes them as soon as it listens.
                    traced = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
                    assert ask(proxy, "/none/0", **traced) == 404
                    for n in range(1, 700):
                        assert get(proxy, f"/none/{n}").status == 404
                    wait_until(lambda: len(taken.logs) >= 700 and len(taken.spans) >= 700)
                assert proxy.diagnostics() == []
            finally:
                process.terminate()
    assert sorted(taken.sequences()) == list(range(700))
    (child,) = [span for span in taken.spans if span.parent_span_id]
    assert (child.trace_id.hex(), child.parent_span_id.hex()) == (TRACE, PARENT)
    assert attributes(child)["url.path"] == "/none/0"
    assert {resource["service.name"] for resource in taken.resources} == {"nono"}


def test_options_by_name_are_pickled_in_their_order() -> None:
    names = [f"x-{letter}" for letter in "nopabcxyzq"]
    config = ProxyConfig(
        otlp_endpoint="http://127.0.0.1:4318",
        otlp_headers=[("x-n", "first"), *((name, "{}") for name in names)],
        otlp_credential_key="env://K",
        otlp_resource_attributes=dict.fromkeys(names, "a"),
    )
    assert list(config.otlp_headers) == list(config.otlp_resource_attributes) == names
    assert pickle.loads(pickle.dumps(config)) == config
