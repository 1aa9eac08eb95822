"""What is measured: the origins, this proxy, and what does the same work.

A peer that is not installed is left out, and the report says so.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .process import Process, free_port

BENCHES = Path(__file__).resolve().parent.parent
ROOT = BENCHES.parent
OUT = BENCHES / "out"
PROGRAMS = ROOT / "target" / os.environ.get("BENCH_PROFILE", "dist")
# Virtual environments with this package and with the reference: `setup-packages` makes them.
OURS = Path(os.environ.get("BENCH_PYTHON", ROOT / "target" / "bench-ours" / "bin" / "python"))
REFERENCE = ROOT / "target" / "bench-reference" / "bin" / "python"
PACKAGES = {"nono": OURS, "reference": REFERENCE}
LITELLM = ROOT / "target" / "bench-litellm" / "bin" / "litellm"
OURS_WHEEL = ROOT / "target" / "wheels"
REFERENCE_WHEEL = ROOT / "target" / "bench-reference-wheel"

# Where Debian keeps servers, which is not on everybody's path.
os.environ["PATH"] += ":/usr/sbin"

KEY = "sk-real-0123456789abcdef"
PEER_TOKEN = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
# As many workers as this proxy runs by default.
WORKERS = min(os.cpu_count() or 1, 4)


@dataclass
class Peer:
    """Something to send load to."""

    name: str
    port: int
    process: Process | None = None
    token: str = KEY
    # Where small answers, small answers by TLS, and streams are.
    plain: str = "/"
    tls: str | None = None
    streams: str = "/"
    # Whether tunnels are opened by CONNECT.
    connects: bool = False
    # What clients inside tunnels trust it by.
    ca: str | None = None
    # How another is started in its place.
    start: Callable[[str], Peer] | None = None

    def renew(self) -> None:
        """Starts another process in place of this one: two runs of one program differ by some
        percent in speed for as long as they live, by where memory and threads come to lie."""
        # It would take longer to start than to measure.
        if self.start and self.process and self.name != "litellm":
            self.process.stop()
            vars(self).update(vars(self.start(self.name)) | {"start": self.start})

    @property
    def header(self) -> str:
        return f"Authorization: Bearer {self.token}"


class Site:
    """The origins, and the peers in front of them."""

    def __init__(self) -> None:
        shutil.rmtree(OUT / "run", ignore_errors=True)
        self.out = OUT / "run"
        self.out.mkdir(parents=True)
        self._certificate()
        self.stream_port = self._origin("streams")
        # One that no route leads to: a route's upstream cannot be reached by a tunnel.
        self.tunnel_port = self._origin("tunnels")
        self.plain_port, self.tls_port = free_port(), free_port()
        self.bulk_port, self.secure_bulk_port = free_port(), free_port()
        self.values = {
            "user": "user root;" if os.geteuid() == 0 else "",
            "cores": os.cpu_count() or 1,
            "out": self.out,
            "key": KEY,
            "token": PEER_TOKEN,
            "origin": self.plain_port,
            "tls_origin": self.tls_port,
            "stream_origin": self.stream_port,
            "tunnel_origin": self.tunnel_port,
            "bulk_origin": self.bulk_port,
            "secure_bulk_origin": self.secure_bulk_port,
        }
        self._start("nginx-origin", "nginx", self.plain_port, tls_port=self.tls_port)

    def _origin(self, name: str, *options: object) -> int:
        command = [str(PROGRAMS / "bench-origin"), "--key", KEY, *map(str, options)]
        return Process(command, self.out / f"origin-{name}.log").answer()["port"]

    @functools.cached_property
    def secure_ports(self) -> dict[str, int]:
        """The origins that speak TLS, by the version of HTTP in it."""
        identity = ["--certificate", self.out / "origin.pem", "--private-key"]
        identity += [self.out / "origin.key", "--http2"]
        kinds = {"h1": "false", "h2": "true"}
        return {name: self._origin(name, *identity, kind) for name, kind in kinds.items()}

    def serve_bulk(self, size: int) -> None:
        """Has the origin serve a file of `size` bytes at its ports for bulk, called `file`."""
        (self.out / "bulk").mkdir()
        with (self.out / "bulk" / "file").open("wb") as file:
            file.truncate(size)

    def bare(self, kind: str) -> Peer:
        """The origin without anything in front of it."""
        ports = {"plain": self.plain_port, "tls": self.tls_port, "streams": self.stream_port}
        ports["tunnels"] = self.tunnel_port
        if kind in ("h1", "h2"):
            ports |= self.secure_ports
        return Peer("direct", ports[kind], tls="/", ca=str(self.out / "ca.pem"))

    def peer(self, name: str) -> Peer:
        """Starts the peer called `name`."""
        if name == "untrained":
            return self.variant(name)
        if name in PACKAGES:
            return self.package(name, _package(name))
        port = free_port()
        common = {"token": PEER_TOKEN, "plain": "/api/", "tls": "/tls/", "streams": "/streams/"}
        if name.startswith("nginx"):
            workers = 1 if name == "nginx-1" else WORKERS
            process = self._start("nginx-proxy", "nginx", port, name=name, workers=workers)
            return Peer(name, port, process, **common)
        if name == "squid":
            process = self._start("squid", "squid", port)
            return Peer(name, port, process, connects=True)
        if name == "litellm":
            process = self._start("litellm", "litellm", port)
            return Peer(name, port, process, token=PEER_TOKEN)
        relay = free_port()
        process = self._start("haproxy", "haproxy", port, workers=WORKERS, relay_port=relay)
        if name == "haproxy-relay":
            return Peer(name, relay, process)
        return Peer(name, port, process, **common)

    def crowded(self, name: str, clients: int) -> Peer:
        """Starts the proxy called `name` for so many clients: this one keeps as many descriptors
        for upstreams, unless it is told of more clients."""
        if name != "nono":
            return self.peer(name)
        return self.package(name, [*_package(name), "--clients", str(clients)])

    def variant(self, name: str) -> Peer:
        """Starts this proxy in the benchmarks' own build, with what `name` leaves out or adds."""
        # `untrained` has all, as the package, which is built by what it does in training.
        options = ["--without", name[3:]] if name.startswith("no ") else []
        if name == "with OTLP":
            options = ["--otlp", f"http://127.0.0.1:{self.stream_port}"]
        if name == "with a file":
            options = ["--audit-file", str(self.out / "records.jsonl")]
        return self.package(name, [str(PROGRAMS / "bench-proxy"), *options])

    def interceptor(self, name: str) -> Peer:
        """Starts the proxy called `name`, to intercept what goes to the TLS origins."""
        command = _package(name)
        certificates = self.out / f"certificates-{name}"
        certificates.mkdir(exist_ok=True)
        ports = self.secure_ports.items()
        origins = {kind: f"https://localhost:{port}" for kind, port in ports}
        return self.package(name, [*command, "--intercept", str(certificates)], origins)

    def package(self, name: str, command: list[str], origins: dict[str, str] | None = None) -> Peer:
        """Starts a proxy that takes the arguments of `bench-proxy`."""
        origins = origins or {
            "api": f"http://127.0.0.1:{self.plain_port}",
            "tls": f"https://localhost:{self.tls_port}",
            "streams": f"http://127.0.0.1:{self.stream_port}",
        }
        for prefix, url in origins.items():
            command = [*command, "--route", f"{prefix}={url}"]
        command += ["--key", "env://BENCH_KEY", "--ca", str(self.out / "ca.pem")]
        for port in (self.tunnel_port, self.bulk_port, self.secure_bulk_port):
            command += ["--allow", f"127.0.0.1:{port}"]
        process = Process(command, self.out / f"{name}.log", env={"BENCH_KEY": KEY})
        found = process.answer()
        return Peer(
            name,
            found["port"],
            process,
            token=found["token"],
            plain="/api/",
            tls="/tls/",
            streams="/streams/",
            connects=True,
            ca=found.get("ca"),
        )

    def _start(self, template: str, program: str, port: int, **more: object) -> Process:
        values = {"name": template, **self.values, **more, "port": port}
        source = next((BENCHES / "peers").glob(f"{template}.[cy]*"))
        text = source.read_text()
        for key, value in values.items():
            text = text.replace(f"@{key}@", str(value))
        config = self.out / f"{values['name']}{source.suffix}"
        config.write_text(text)
        command = {
            "nginx": ["nginx", "-p", str(self.out), "-e", "stderr", "-c", str(config)],
            "haproxy": ["haproxy", "-db", "-f", str(config)],
            "squid": ["squid", "-N", "-f", str(config)],
            "litellm": [
                *(str(LITELLM), "--config", str(config), "--host", "127.0.0.1"),
                *("--port", str(port), "--num_workers", str(WORKERS), "--run_gunicorn"),
            ],
        }[program]
        # LiteLLM would fetch a price list from the internet first.
        env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        return Process(command, self.out / f"{values['name']}.log", port, env)

    def _certificate(self) -> None:
        """A certificate for the TLS origin, signed by an authority made for this run."""
        new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        new += ["-nodes", "-days", "2"]
        leaf = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        leaf += ["-addext", "basicConstraints=critical,CA:FALSE", "-CA", "ca.pem"]
        leaf += ["-CAkey", "ca.key", "-keyout", "origin.key", "-out", "origin.pem"]
        for command in (
            [*new, "-subj", "/CN=bench authority", "-keyout", "ca.key", "-out", "ca.pem"],
            [*new, "-subj", "/CN=bench origin", *leaf],
        ):
            subprocess.run(command, cwd=self.out, check=True, capture_output=True)


def missing_programs(names: list[str]) -> list[str]:
    """Those of `names` that cannot be found."""
    return [name for name in names if not shutil.which(name)]


def _package(name: str) -> list[str]:
    """The command of a proxy of one of the two Python packages."""
    return [str(PACKAGES[name]), str(BENCHES / "peers" / "python_proxy.py")]


def needed() -> list[str]:
    """What nothing can be measured without, and is not there."""
    built = [PROGRAMS / f"bench-{name}" for name in ("proxy", "origin", "load")]
    absent = [str(path.relative_to(ROOT)) for path in built if not path.exists()]
    return missing_programs(["nginx", "openssl", "wrk", "curl"]) + absent


def missing() -> dict[str, str]:
    """What is not installed, and what is left out for it. Ends when nothing can be measured."""
    if absent := needed():
        sys.exit(f"needed and not there: {', '.join(absent)}; see `make bench-setup`")
    lost = {name: "its columns" for name in ("haproxy", "squid", "git") if not shutil.which(name)}
    lost["haproxy-relay"] = "its columns"
    if "haproxy" not in lost:
        del lost["haproxy-relay"]
    if not REFERENCE.exists():
        lost["reference"] = "its columns"
    if not LITELLM.exists():
        lost["litellm"] = "its column"
    if not shutil.which("bwrap"):
        lost["bubblewrap"] = "its column"
    if not OURS.exists():
        lost |= dict.fromkeys(("nono_py", "nono"), "the columns of the package")
    return lost
