"""What is measured, in the order of the report. Each takes a `Bench` and returns scenarios."""

from __future__ import annotations

from . import execs, intercept, package, parts, requests, snapshots, streams, tunnels

SCENARIOS = {
    "plain": requests.plain,
    "tls": requests.tls,
    "rates": requests.rates,
    "bodies": requests.bodies,
    "llm": requests.llm,
    "audit": requests.audit,
    "scrubbing": requests.scrubbing,
    "events": streams.events,
    "sockets": streams.sockets,
    "idle": streams.idle,
    "tunnels": tunnels.bulk,
    "setups": tunnels.setups,
    "inside_bulk": intercept.bulk,
    "handshakes": intercept.handshakes,
    "inside": intercept.requests,
    "execs": execs.execs,
    "fan_out": execs.fan_out,
    "exec_paths": execs.paths,
    "snapshots": snapshots.snapshots,
    "drains": package.drains,
    "imports": package.imports,
    "wheels": package.wheels,
    "layers": parts.layers,
    "hosts": parts.hosts,
    "endpoints": parts.endpoints,
    "routes": parts.routes,
    "records": parts.records,
    "record_size": parts.record_size,
    "paths": parts.paths,
}
