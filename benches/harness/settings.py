"""The sizes of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Settings:
    """How often, how long, how wide."""

    rounds: int
    seconds: float
    # Connections of small GETs, by plain and TLS upstreams.
    plain: list[int]
    tls: list[int]
    # Requests per second.
    rates: list[int]
    # Name, bytes, connections.
    bodies: list[tuple[str, int, int]]
    llm: list[int]
    # Streams, and milliseconds between events.
    streams: list[tuple[int, int]]
    stream_seconds: float
    sockets: list[int]
    bulk_bytes: int
    setups: list[int]
    # Inside intercepted tunnels: the bytes of a download, connections.
    inside_bytes: int
    inside: list[int]
    idle: list[int]
    idle_streams: list[int]
    # With and without records, with and without scrubbing: connections, and by how many turns in
    # each round, of how many seconds.
    variants: list[int]
    turns: int
    turn_seconds: float
    # Name, MiB of the parent, its threads, a time limit.
    execs: list[tuple[str, int, int, float | None]]
    exec_paths: list[int]
    exec_count: int
    # How many at once, and how many in all.
    fan_out: tuple[int, int]
    # Files of a tree, how many of them change, and the bytes of a large one.
    snapshots: tuple[int, int, int]
    drains: list[int]
    # Seconds for each part: to warm up, to measure.
    parts: tuple[float, float]
    # Scenarios that are measured only when they are asked for by name.
    left_out: frozenset[str] = frozenset()


FULL = Settings(
    rounds=5,
    seconds=1.5,
    plain=[1, 16, 64, 256],
    tls=[1, 16, 64, 256],
    rates=[5000, 15_000, 25_000],
    bodies=[("1 kB", 1000, 16), ("100 kB", 100_000, 16), ("10 MB", 10_000_000, 4)],
    llm=[1, 16],
    streams=[(10, 5), (100, 5), (250, 5), (10, 50), (100, 50), (250, 50)],
    stream_seconds=1.5,
    sockets=[1, 16, 64],
    bulk_bytes=2_000_000_000,
    setups=[1, 16],
    inside_bytes=1_000_000_000,
    inside=[1, 16],
    idle=[2000, 10_000],
    idle_streams=[1000],
    variants=[1, 64],
    turns=10,
    turn_seconds=0.3,
    execs=[
        ("small parent", 0, 1, None),
        ("small parent, time limit", 0, 1, 10),
        ("small parent, 50 threads", 0, 50, None),
        ("2 GiB parent", 2048, 1, None),
        ("2 GiB parent, time limit", 2048, 1, 10),
        ("2 GiB parent, 50 threads", 2048, 50, None),
    ],
    exec_paths=[6, 60, 600],
    exec_count=60,
    fan_out=(50, 500),
    snapshots=(50_000, 1000, 1_000_000_000),
    drains=[1000, 4000, 40_000],
    parts=(0.3, 0.7),
)

QUICK = Settings(
    rounds=3,
    seconds=0.5,
    plain=[64],
    tls=[64],
    rates=[5000],
    bodies=[("100 kB", 100_000, 16)],
    llm=[],
    streams=[(100, 5)],
    stream_seconds=0.5,
    sockets=[16],
    bulk_bytes=300_000_000,
    setups=[16],
    inside_bytes=300_000_000,
    inside=[16],
    idle=[1000],
    idle_streams=[300],
    variants=[64],
    turns=2,
    turn_seconds=0.25,
    execs=[("small parent", 0, 1, None)],
    exec_paths=[],
    exec_count=40,
    fan_out=(20, 100),
    snapshots=(10_000, 1000, 100_000_000),
    drains=[4000],
    parts=(0.05, 0.1),
    left_out=frozenset({"llm", "exec_paths", "routes", "records", "record_size", "paths"}),
)
