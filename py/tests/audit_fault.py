"""A proxy whose audit file cannot be written for a while; run by itself, for its limits."""

import itertools
import resource
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from nono_py import ProxyConfig, ProxyHandle, start_proxy

# A write beyond a limit of the process fails as one to a full disk does.
LIMIT = resource.RLIMIT_FSIZE
HELD = 30


def status(proxy: ProxyHandle) -> int:
    """Send a request that no route is for, and return the answer's status."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    token = proxy.env_vars()["NONO_PROXY_TOKEN"]
    headers = {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"http://{proxy.address}/none", headers=headers)
    try:
        return int(opener.open(request, timeout=20).status)
    except urllib.error.HTTPError as error:
        return error.code


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.01)


def main() -> None:
    directory, fault = Path(sys.argv[1]), sys.argv[2]
    directory.mkdir()
    path = directory / "log"
    config = ProxyConfig(audit_file=path, audit_records=HELD, audit_disk_bytes=0)
    unlimited = resource.getrlimit(LIMIT)
    with start_proxy(config) as proxy:
        assert status(proxy) == 404
        until(lambda: len(path.read_bytes().splitlines()) == 2)
        if fault == "full":
            resource.setrlimit(LIMIT, (path.stat().st_size + 100, unlimited[1]))
        else:
            shutil.rmtree(directory)
        # What the file does not take is held, though this consumer takes it out.
        served = 1
        while (answer := status(proxy)) != 503:
            assert answer == 404
            served += 1
            proxy.drain_audit_events()
            assert served <= HELD + 1
        until(lambda: len(proxy.diagnostics()) == 2)
        found, filling = proxy.diagnostics()
        assert (found["code"], found["route_prefix"]) == ("audit_unwritable", "audit_file"), found
        assert filling["code"] == "audit_filling", filling
        assert "wait for audit_file" in filling["message"], filling
        words = {"full": "File too large", "removed": "No such file or directory"}
        assert words[fault] in found["message"], found
        if fault == "full":
            assert len(path.read_bytes().splitlines()) == 2, "nothing is left of half a line"
            resource.setrlimit(LIMIT, unlimited)
        else:
            directory.mkdir()
        until(lambda: not proxy.diagnostics())
        until(lambda: status(proxy) == 404)
        proxy.drain_audit_events()
    lost = 1 if fault == "removed" else 0
    for number, line in zip(itertools.count(lost), path.read_text().splitlines()[1:], strict=False):
        assert f'"sequence":{number},' in line, line
    assert len(path.read_text().splitlines()) == 1 + served + 1 - lost
    print("done")


if __name__ == "__main__":
    main()
