"""A proxy of the Python package, with the arguments of `bench-proxy`: this project's package or
the reference package, whose interfaces are the same as far as is used here.

Prints its port and token, and the file that clients trust it by if it intercepts; ends when its
standard input does. Until then it takes the records out and drops them, if the package keeps all.
With `--drain N` it instead sends N requests through itself with the command after `--load`, a few
times over, and prints what taking the records out costs each time, and the first time, when memory
is new to the process.
"""

import argparse
import json
import select
import statistics
import subprocess
import sys
import time

# How often records are taken out in one process.
DRAINS = 5

# How often a program that ships records takes them out, in seconds.
PAUSE = 0.1


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--route", action="append", default=[])
    parser.add_argument("--allow", action="append", default=[])
    parser.add_argument("--key")
    parser.add_argument("--ca")
    parser.add_argument("--intercept")
    parser.add_argument("--drain", type=int)
    parser.add_argument("--method", default="drain_audit_events")
    parser.add_argument("--load")
    # Of this project's package alone.
    parser.add_argument("--audit-file")
    parser.add_argument("--otlp")
    parser.add_argument("--clients", type=int)
    arguments = parser.parse_args()

    from nono_py import ProxyConfig, RouteConfig, start_proxy

    routes = []
    for text in arguments.route:
        prefix, upstream = text.split("=", 1)
        options = {"tls_ca": arguments.ca} if upstream.startswith("https") else {}
        routes.append(RouteConfig(prefix, upstream, credential_key=arguments.key, **options))
    own = {
        "audit_file": arguments.audit_file,
        "otlp_endpoint": arguments.otlp,
        "max_client_connections": arguments.clients,
    }
    config = ProxyConfig(
        allowed_hosts=arguments.allow,
        routes=routes,
        max_connections=20_000,
        intercept_ca_dir=arguments.intercept,
        **{name: value for name, value in own.items() if value},
    )
    proxy = start_proxy(config)
    token = proxy.env_vars()["NONO_PROXY_TOKEN"]
    if arguments.drain:
        drain(proxy, token, arguments)
    else:
        trusted = proxy.env_vars().get("SSL_CERT_FILE")
        print(json.dumps({"port": proxy.port, "token": token, "ca": trusted}), flush=True)
        take = getattr(proxy, "drain_audit_jsonl", None)
        while not select.select([sys.stdin], [], [], PAUSE if take else None)[0]:
            take()
    proxy.shutdown()


def drain(proxy: object, token: str, arguments: argparse.Namespace) -> None:
    """Prints the microseconds per record of the method that takes them out."""
    take = getattr(proxy, arguments.method, None)
    if take is None:
        print(json.dumps({"missing": f"the package has no `{arguments.method}` yet"}), flush=True)
        return
    command = [arguments.load, "requests", "--port", str(proxy.port), "--path", "/api/small"]
    command += ["--header", f"Authorization: Bearer {token}"]
    command += ["--requests", str(arguments.drain // 8), "--connections", "8"]
    costs = []
    for _ in range(DRAINS):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        begun = time.perf_counter()
        events = take()
        seconds = time.perf_counter() - begun
        count = events.count(b"\n") if isinstance(events, bytes) else len(events)
        del events
        # A record ends a moment after its answer.
        if count < arguments.drain - 8:
            raise SystemExit(f"{count} records came, not {arguments.drain}")
        costs.append(seconds / count * 1e6)
    found = {"events": count, "us": statistics.median(costs), "first us": costs[0]}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
