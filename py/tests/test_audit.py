"""The records of a proxy, on every way out."""

import asyncio
import contextlib
import hashlib
import http.client
import itertools
import json
import logging
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from nono_py import (
    AuditEvent,
    AuditEvents,
    AuditLogger,
    ProxyConfig,
    ProxyHandle,
    RouteConfig,
    start_proxy,
)
from reference import Reference

COUNT = 20


@pytest.fixture
def proxy() -> Iterator[ProxyHandle]:
    with start_proxy(ProxyConfig()) as proxy:
        yield proxy


def refuse(proxy: ProxyHandle, count: int = COUNT) -> None:
    """Send requests that are refused; each leaves a record."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    token = proxy.env_vars()["NONO_PROXY_TOKEN"]
    for n in range(count):
        url = f"http://{proxy.address}/none/{n}?key=secret"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
        with pytest.raises(urllib.error.HTTPError):
            opener.open(request, timeout=20)


def metrics(proxy: ProxyHandle, until: str) -> str:
    """Return the metrics as soon as they have that: records reach them some milliseconds late."""
    assert proxy.metrics_url is not None
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 20
    while until not in (text := opener.open(proxy.metrics_url).read().decode()):
        assert time.monotonic() < deadline, text
    return str(text)


async def sequences(events: AuditEvents) -> list[int]:
    """Await all events of a consumer."""
    return [event.sequence async for event in events]


def test_every_consumer_sees_every_record_once(proxy: ProxyHandle) -> None:
    consumers = [proxy.audit_events(), proxy.audit_events()]
    seen: list[list[int]] = [[], []]

    def read(number: int) -> None:
        seen[number] += [event.sequence for event in consumers[number]]

    threads = [threading.Thread(target=read, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    refuse(proxy)
    late = proxy.audit_events()
    proxy.shutdown()
    for thread in threads:
        thread.join(20)
    assert seen == [list(range(COUNT))] * 2
    assert [event.sequence for event in late] == list(range(COUNT)), "what is held is seen too"
    assert [event["sequence"] for event in proxy.drain_audit_events()] == list(range(COUNT))


def test_events_are_awaited(proxy: ProxyHandle) -> None:
    async def both() -> list[list[int]]:
        readers = [asyncio.create_task(sequences(proxy.audit_events())) for _ in range(2)]
        await asyncio.to_thread(refuse, proxy)
        await asyncio.to_thread(proxy.shutdown)
        return list(await asyncio.wait_for(asyncio.gather(*readers), 20))

    assert asyncio.run(both()) == [list(range(COUNT))] * 2


def test_a_wait_that_was_cancelled_is_not_the_end(proxy: ProxyHandle) -> None:
    async def main() -> int:
        iterator = aiter(proxy.audit_events())
        waiting = asyncio.ensure_future(anext(iterator))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.to_thread(refuse, proxy, 1)
        return (await asyncio.wait_for(anext(iterator), 20)).sequence

    assert asyncio.run(main()) == 0


def test_who_awaits_an_event_is_told_of_the_end_of_its_consumer(proxy: ProxyHandle) -> None:
    async def main() -> list[int]:
        events = proxy.audit_events()

        reader = asyncio.create_task(sequences(events))
        await asyncio.to_thread(refuse, proxy, 3)
        while events.lag:
            await asyncio.sleep(0)
        # A forked child has copies of all descriptors, which must not make a difference.
        child = os.fork()
        if child == 0:
            signal.pause()
        try:
            events.close()
            return await asyncio.wait_for(reader, 20)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    assert asyncio.run(main()) == [0, 1, 2]


def test_one_task_at_a_time_awaits_the_events_of_a_consumer(proxy: ProxyHandle) -> None:
    async def main() -> list[int]:
        events = proxy.audit_events()

        first = asyncio.create_task(sequences(events))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="needs a consumer of its own"):
            await sequences(events)
        # One that gives up makes room.
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        second = asyncio.create_task(sequences(events))
        await asyncio.to_thread(refuse, proxy, 3)
        await asyncio.to_thread(proxy.shutdown)
        return await asyncio.wait_for(second, 20)

    assert asyncio.run(main()) == [0, 1, 2]


def test_a_thread_does_not_take_the_event_that_a_task_awaits(proxy: ProxyHandle) -> None:
    async def main() -> list[int]:
        events = proxy.audit_events()
        task = asyncio.create_task(sequences(events))
        await asyncio.sleep(0)
        refuse(proxy, 3)
        with pytest.raises(RuntimeError, match="another task waits"):
            next(events)
        await asyncio.to_thread(proxy.shutdown)
        return await asyncio.wait_for(task, 20)

    assert asyncio.run(main()) == [0, 1, 2]


def test_a_task_is_refused_what_a_thread_waits_for(proxy: ProxyHandle) -> None:
    events = proxy.audit_events()
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.extend(event.sequence for event in events))
    thread.start()

    def poll() -> None:
        # The thread is not there at once.
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            events._poll()

    with pytest.raises(RuntimeError, match="another thread waits"):
        poll()
    refuse(proxy, 3)
    proxy.shutdown()
    thread.join(20)
    assert seen == [0, 1, 2]


def test_a_thread_that_stops_leaves_the_others_what_it_has_not_taken() -> None:
    # Now and then both are woken by the same records, and the end is there already.
    for _ in range(20):
        with start_proxy(ProxyConfig()) as proxy:
            events = proxy.audit_events()
            seen: list[int] = []

            def take(count: int, events: AuditEvents = events, seen: list[int] = seen) -> None:
                seen += (event.sequence for event in itertools.islice(events, count))

            threads = [threading.Thread(target=take, args=(count,)) for count in (1, COUNT)]
            for thread in threads:
                thread.start()
            refuse(proxy, 3)
            proxy.shutdown()
            for thread in threads:
                thread.join(20)
        assert sorted(seen) == [0, 1, 2]


def test_an_object_has_what_the_dictionary_has(proxy: ProxyHandle) -> None:
    other = proxy.audit_events()
    refuse(proxy, 1)
    (event,) = proxy.drain_audit_objects()
    fields = event.to_dict()
    assert {name: getattr(event, name) for name in fields} == fields
    assert json.loads(event.to_json()) == fields
    assert event == next(other)
    assert "secret" not in event.to_json()
    with pytest.raises(AttributeError):
        event.status = 200  # type: ignore[misc]
    assert isinstance(event, AuditEvent)
    other.close()
    assert list(other) == []


def test_an_object_can_be_pickled(proxy: ProxyHandle) -> None:
    refuse(proxy)
    events = proxy.drain_audit_objects()
    again = pickle.loads(pickle.dumps(events))
    assert again == events
    assert [event.to_dict() for event in again] == [event.to_dict() for event in events]
    with pytest.raises(ValueError, match="this is not what was pickled: missing field"):
        events[0].__reduce__()[0]("{}")  # type: ignore[operator]


def test_json_lines_are_the_dictionaries(proxy: ProxyHandle) -> None:
    refuse(proxy)
    other = proxy.audit_events()
    proxy.shutdown()
    lines = proxy.drain_audit_jsonl().splitlines()
    assert [json.loads(line) for line in lines] == [event.to_dict() for event in other]
    assert proxy.drain_audit_jsonl() == b""


def test_records_outlive_the_proxy_in_every_form() -> None:
    for method in ("drain_audit_events", "drain_audit_objects", "drain_audit_jsonl"):
        proxy = start_proxy(ProxyConfig())
        refuse(proxy, 3)
        late = proxy.audit_events()
        proxy.shutdown()
        assert method == "drain_audit_jsonl" or len(getattr(proxy, method)()) == 3
        assert proxy.drain_audit_jsonl().count(b"\n") == (3 if method == "drain_audit_jsonl" else 0)
        assert [event.sequence for event in late] == [0, 1, 2]


#: Drains more lines than there is memory for, and then again with enough of it.
HUNGRY = """
import http.client, json, resource
from nono_py import ProxyConfig, start_proxy

COUNT = 8_000

def refuse(proxy):
    token = proxy.env_vars()["NONO_PROXY_TOKEN"]
    head = [f"GET /none/{'x' * 400} HTTP/1.1", "Host: p", f"Authorization: Bearer {token}"]
    one = "".join(line + "\\r\\n" for line in [*head, ""])
    connection = http.client.HTTPConnection(proxy.address, timeout=60)
    connection.connect()
    for _ in range(COUNT // 100):
        connection.sock.sendall(one.encode() * 100)
        got = b""
        while got.count(b"HTTP/1.1 404") < 100 or not got.endswith(b"}"):
            got += connection.sock.recv(1 << 20)

with start_proxy(ProxyConfig()) as proxy:
    # The second time the room for lines is kept, and what they are copied to is in use.
    for _ in range(2):
        refuse(proxy)
        held = proxy.drain_audit_jsonl()
    refuse(proxy)
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + (1 << 20), hard))
    try:
        proxy.drain_audit_jsonl()
        print("there was memory")
    except MemoryError:
        print("none left")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    lines = proxy.drain_audit_jsonl().splitlines()
    print([json.loads(line)["sequence"] for line in lines] == list(range(2 * COUNT, 3 * COUNT)))
"""


def test_lines_for_which_there_is_no_memory_are_there_the_next_time() -> None:
    command = [sys.executable, "-c", HUNGRY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.stdout.splitlines(), done.stderr) == (["none left", "True"], "")


#: Drains while one piece of memory after the other is not to be had.
FORGETFUL = """
import http.client, sys
import _testcapi
from nono_py import ProxyConfig, start_proxy

with start_proxy(ProxyConfig()) as proxy:
    token = proxy.env_vars()["NONO_PROXY_TOKEN"]
    client = http.client.HTTPConnection(proxy.address, timeout=60)
    drain = getattr(proxy, sys.argv[1])
    sequences, failed = [], 0
    for at in range(1, 60):
        for _ in range(5):
            client.request("GET", "/none", headers={"Authorization": f"Bearer {token}"})
            client.getresponse().read()
        taken = []
        _testcapi.set_nomemory(at, at + 1)
        try:
            taken = drain()
        except BaseException:
            failed += 1
        finally:
            _testcapi.remove_mem_hooks()
        for event in taken + drain():
            sequences.append(event["sequence"] if type(event) is dict else event.sequence)
    print(failed > 0, sequences == list(range(5 * 59)))
"""


@pytest.mark.parametrize("method", ["drain_audit_events", "drain_audit_objects"])
def test_records_for_which_there_is_no_memory_are_there_the_next_time(method: str) -> None:
    pytest.importorskip("_testcapi", reason="a part of Python's own tests")
    command = [sys.executable, "-c", FORGETFUL, method]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout == "True True\n", done.stderr


def test_logging_has_every_record(proxy: ProxyHandle, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "nono_py.audit"), AuditLogger(proxy):
        refuse(proxy)
    records = [record for record in caplog.records if record.name == "nono_py.audit"]
    assert [record.__dict__["audit"].sequence for record in records] == list(range(COUNT))
    assert {record.levelname for record in records} == {"WARNING"}
    assert records[0].getMessage().startswith("GET /none/0?key=[redacted] deny 404 refused")


def audit(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "nono_py", "audit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def chain(path: Path) -> str:
    """Compute the last hash of a file as its format says."""
    head, previous = None, bytes(32)
    for number, line in enumerate(path.read_text("ascii").splitlines()):
        record = json.loads(line)
        assert (record["sequence"], record["prev_chain"]) == (number, head)
        assert json.loads(record["event_json"]) == record["event"]
        text = record["event_json"].encode()
        leaf = hashlib.sha256(b"nono.audit.event.alpha\n" + text).digest()
        previous = hashlib.sha256(b"nono.audit.chain.alpha\n" + previous + leaf).digest()
        head = previous.hex()
        assert (record["leaf_hash"], record["chain_hash"]) == (leaf.hex(), head)
    assert head is not None
    return head


def test_a_file_is_a_chain_that_can_be_checked_counted_and_read(tmp_path: Path) -> None:
    path = tmp_path / "audit-events.ndjson"
    with start_proxy(ProxyConfig(audit_file=path)) as proxy:
        refuse(proxy)
    head = chain(path)
    done = audit("verify", tmp_path, "--head", head)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{COUNT + 1} lines in 1 files")
    assert audit("verify", path, "--head", "0" * 64).returncode == 1
    assert f"{COUNT} exchanges" in audit("stats", path).stdout
    assert len(audit("tail", path).stdout.splitlines()) == COUNT
    path.write_text(path.read_text("ascii").replace("/none/7", "/none/8", 1), "ascii")
    done = audit("verify", path)
    assert (done.returncode, "line 9: " in done.stderr) == (1, True)


def test_the_reference_verifies_a_file(tmp_path: Path) -> None:
    # It knows no other name.
    with start_proxy(ProxyConfig(audit_file=tmp_path / "audit-events.ndjson")) as proxy:
        refuse(proxy)
    program = "import json, sys; from nono_py import audit; "
    program += "print(json.dumps(audit.verify_log(sys.argv[1], stored=None)))"
    found = json.loads(Reference().run(program, tmp_path, cwd=tmp_path))
    assert (found["event_count"], found["records_verified"]) == (COUNT + 1, True)
    assert found["computed_chain_head"] == chain(tmp_path / "audit-events.ndjson")
    assert not found["missing_canonical_event_json"]


def test_what_runs_is_listed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        config = ProxyConfig(routes=[RouteConfig("/slow", f"http://{target}")])
        with start_proxy(config) as proxy:
            assert proxy.active() == []
            token = proxy.env_vars()["NONO_PROXY_TOKEN"]
            connection = http.client.HTTPConnection(proxy.address, timeout=20)
            connection.request("GET", "/slow/x", headers={"Authorization": f"Bearer {token}"})
            with silent.accept()[0]:
                (running,) = proxy.active()
                assert (running["phase"], running["outcome"]) == ("open", "running")
                assert (running["path"], running["route_id"]) == ("/slow/x", "slow")
            assert connection.getresponse().status == 502
            (ended,) = proxy.drain_audit_events()
            assert (ended["id"], ended["outcome"]) == (running["id"], "upstream_abort")
            assert proxy.active() == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda lines: lines.pop(5), 6),
        (lambda lines: lines.insert(5, lines.pop(6)), 6),
        (lambda lines: lines.insert(9, lines[8]), 10),
        (lambda lines: lines.append(lines.pop()[:-20]), COUNT + 1),
        (lambda lines: lines.append(lines.pop(3)[:99] + "\n"), 4),
        (
            lambda lines: lines.append(lines.pop().replace('"status":404', '"status":200')),
            COUNT + 1,
        ),
    ],
    ids=["removed", "swapped", "repeated", "cut off", "truncated and moved", "changed"],
)
def test_a_line_that_is_not_as_it_was_written_is_named(
    tmp_path: Path, change: Callable[[list[str]], object], line: int
) -> None:
    path = tmp_path / "log"
    with start_proxy(ProxyConfig(audit_file=path)) as proxy:
        refuse(proxy)
    lines = path.read_text("ascii").splitlines(keepends=True)
    change(lines)
    path.write_text("".join(lines), "ascii")
    done = audit("verify", path)
    assert (done.returncode, f"line {line}: " in done.stderr) == (1, True), done.stderr


def test_a_killed_process_leaves_whole_lines_and_the_next_one_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "audit-events.ndjson"
    program = (
        "import sys; from nono_py import *; "
        "proxy = start_proxy(ProxyConfig(audit_file=sys.argv[1], require_auth=False)); "
        "print(proxy.address, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        address = process.stdout.readline().decode().strip()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while len(path.read_bytes().splitlines()) < 5:
            with pytest.raises(urllib.error.HTTPError):
                opener.open(f"http://{address}/none", timeout=20)
        process.kill()
    assert audit("verify", path).returncode == 0
    with path.open("ab") as file:
        file.write(b'{"sequence":')
    assert "it is cut off" in audit("verify", path).stderr
    with start_proxy(ProxyConfig(audit_file=path)) as proxy:
        refuse(proxy, 1)
    done = audit("verify", path)
    assert (done.returncode, "in 2 files" in done.stdout) == (0, True)


def test_a_file_that_cannot_be_made_is_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="cannot begin the audit log"):
        start_proxy(ProxyConfig(audit_file=tmp_path / "none" / "log"))


@pytest.mark.parametrize("fault", ["full", "removed"])
def test_a_file_that_fails_is_told_of_and_none_of_its_records_is_lost(
    tmp_path: Path, fault: str
) -> None:
    program = Path(__file__).with_name("audit_fault.py")
    command = [sys.executable, str(program), str(tmp_path / "logs"), fault]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_two_proxies_do_not_write_one_file(tmp_path: Path) -> None:
    config = ProxyConfig(audit_file=tmp_path / "log")
    with start_proxy(config) as proxy:
        with pytest.raises(RuntimeError, match="a log is being written there already"):
            start_proxy(config)
        refuse(proxy)
    assert audit("verify", tmp_path / "log").returncode == 0
    with start_proxy(config):
        pass


def test_an_audit_file_that_can_be_none_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='audit_file_max_bytes "0"'):
        ProxyConfig(audit_file=tmp_path / "log", audit_file_max_bytes=0)
    for path in (tmp_path, Path("/")):
        with pytest.raises(ValueError, match="it must name a file"):
            ProxyConfig(audit_file=path)
    with pytest.raises(OverflowError):
        ProxyConfig(audit_file=tmp_path / "log", audit_file_keep=-1)


def test_metrics_count_what_the_records_say() -> None:
    with start_proxy(ProxyConfig(metrics_addr="127.0.0.1:0")) as proxy:
        refuse(proxy)
        assert proxy.metrics_url is not None
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        text = metrics(
            proxy, 'nono_requests_total{mode="reverse",decision="deny",outcome="refused"} 20'
        )
        assert 'nono_refusals_total{category="unknown_route",status="404"} 20' in text
        assert "nono_request_duration_seconds_count 20" in text
        assert "nono_audit_lag 20" in text
        with pytest.raises(urllib.error.HTTPError, match="404"):
            opener.open(proxy.metrics_url + "/more")
    with pytest.raises(urllib.error.URLError):
        opener.open(proxy.metrics_url)


def test_refusals_that_the_log_does_not_keep_are_counted_and_said() -> None:
    config = ProxyConfig(audit_records=20, audit_disk_bytes=0, metrics_addr="127.0.0.1:0")
    with start_proxy(config) as proxy:
        connection = http.client.HTTPConnection(proxy.address, timeout=20)
        for _ in range(50):
            connection.request("GET", "/none")
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 401
        connection.close()
        text = metrics(proxy, '401"} 50')
        assert 'nono_requests_total{mode="reverse",decision="deny",outcome="refused"} 50' in text
        refuse(proxy, 5)
        (found,) = [it for it in proxy.diagnostics() if it["code"] == "audit_strangers"]
        assert "45 refusals" in found["message"]
        events = proxy.drain_audit_events()
        assert len([event for event in events if event["status"] == 401]) == 5
        assert sum(event["dropped"] or 0 for event in events) == 45


def test_an_audit_file_keeps_the_refusals_that_memory_has_no_place_for(tmp_path: Path) -> None:
    config = ProxyConfig(audit_records=20, audit_file=tmp_path / "log")
    with start_proxy(config) as proxy:
        connection = http.client.HTTPConnection(proxy.address, timeout=20)
        for _ in range(10):
            connection.request("GET", "/none")
            connection.getresponse().read()
        connection.close()
    lines = (tmp_path / "log").read_text().splitlines()
    assert len([line for line in lines if '"status":401' in line]) == 10


def test_metrics_are_off_by_default(proxy: ProxyHandle) -> None:
    assert proxy.metrics_url is None
    with pytest.raises(ValueError, match="metrics_addr 'localhost'"):
        ProxyConfig(metrics_addr="localhost")


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
def test_prometheus_scrapes_them(tmp_path: Path) -> None:
    with start_proxy(ProxyConfig(metrics_addr="127.0.0.1:0")) as proxy:
        refuse(proxy)
        assert proxy.metrics_url is not None
        address = urlsplit(proxy.metrics_url).netloc
        job = {"job_name": "nono", "static_configs": [{"targets": [address]}]}
        config = {"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}
        (tmp_path / "prometheus.yml").write_text(json.dumps(config))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
        command.append(f"--web.listen-address=127.0.0.1:{port}")
        with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
            try:
                assert scraped(f"http://127.0.0.1:{port}", "nono_refusals_total") == "20"
            finally:
                process.terminate()


def scraped(prometheus: str, name: str) -> str:
    """Return a metric's value as soon as Prometheus has it."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            answer = json.load(opener.open(f"{prometheus}/api/v1/query?query={name}", timeout=5))
            if answer["data"]["result"]:
                return str(answer["data"]["result"][0]["value"][1])
        time.sleep(0.2)
    raise AssertionError(f"{name} was not scraped")


def test_who_never_drains_is_served_on_where_a_file_has_the_records(tmp_path: Path) -> None:
    path = tmp_path / "log"
    config = ProxyConfig(audit_file=path, audit_records=20, audit_disk_bytes=0)
    with start_proxy(config) as proxy:
        refuse_all(proxy, 100)
        # For a moment the file may not yet have the last ones.
        deadline = time.monotonic() + 20
        while proxy.diagnostics():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        gap, *rest = proxy.drain_audit_events()
        assert (gap["phase"], gap["sequence"]) == ("gap", 0)
        assert gap["dropped"] == 100 - len(rest)
        assert str(path) in str(gap["reason"])
        assert [event["sequence"] for event in rest] == list(range(100 - len(rest), 100))
        refuse(proxy, 5)
        assert [event["sequence"] for event in proxy.drain_audit_events()] == [*range(100, 105)]
    assert len(path.read_bytes().splitlines()) == 106


def refuse_all(proxy: ProxyHandle, count: int) -> None:
    """Refuse that many requests, each as soon as there is a place for its record."""
    token = proxy.env_vars()["NONO_PROXY_TOKEN"]
    connection = http.client.HTTPConnection(proxy.address, timeout=20)
    deadline = time.monotonic() + 20
    while count > 0:
        connection.request("GET", "/none", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        answer.read()
        # The file has to have them first, which takes some milliseconds.
        assert answer.status == 404 or time.monotonic() < deadline
        count -= answer.status == 404
    connection.close()


def test_a_log_that_fills_is_warned_of_before_it_is_full(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = ProxyConfig(audit_records=20, audit_disk_bytes=0)
    with caplog.at_level(logging.WARNING, "nono_py"), start_proxy(config) as proxy:
        refuse(proxy, 10)
        assert proxy.diagnostics() == []
        refuse(proxy, 6)
        deadline = time.monotonic() + 20
        while not (said := [it for it in caplog.records if it.name == "nono_py"]):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert said[0].levelname == "WARNING"
        assert "16 records wait for drain_audit_events()" in said[0].getMessage()
        assert "audit_file" in said[0].getMessage()
        (found,) = proxy.diagnostics()
        assert (found["code"], found["route_prefix"]) == ("audit_filling", "audit")
        assert "requests are refused" in found["message"]
        refuse(proxy, 4)
        assert len(proxy.drain_audit_events()) == 20, "and nothing of it is lost"
        assert proxy.diagnostics() == []
