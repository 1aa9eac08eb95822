"""What a user writes, as type checkers see it; `test_typing.py` has them read it. Never run."""

import os
from datetime import timedelta
from pathlib import Path

import nono_py
from nono_py import (
    AccessMode,
    CapabilitySet,
    ProxyConfig,
    QueryContext,
    RouteConfig,
    learn,
    run,
    sandboxed_exec,
    sandboxed_exec_async,
    sandboxed_spawn,
    start_proxy,
)


def answers(query: QueryContext, path: os.PathLike[str]) -> str | None:
    """Each reason has fields of its own, and only those."""
    answer = query.query_path(path, AccessMode.READ)
    match answer["reason"]:
        case "granted_path":
            return answer["granted_path"] + answer["access"]
        case "insufficient_access":
            return answer["granted"] + answer["requested"]
        case "path_denied":
            return answer["denied_path"]
        case "set_refused":
            return answer["message"]
        case "path_not_granted":
            return None


def unasked(query: QueryContext) -> str:
    """Without a look at the reason there may be no such field."""
    answer = query.query_path("/", AccessMode.READ)
    return answer["granted_path"]  # pyright: ignore


def token() -> tuple[str, timedelta]:
    return "sk-...", timedelta(minutes=5)


async def programs(work: Path) -> None:
    route = RouteConfig.preset("openai", credential_key=None, credential=token)
    caps = CapabilitySet()
    caps.allow_path(work, AccessMode.READ_WRITE, execute=False)
    with start_proxy(ProxyConfig(["example.com"], [route], audit_file=work / "log")) as proxy:
        done = sandboxed_exec(caps, ["env", work], env={"A": "b"}, proxy=proxy, timeout_secs=1)
        code: int = done.check().exit_code
        done = await sandboxed_exec_async(caps, ["true"], input=b"x", pty=(24, 80))
        async with await sandboxed_spawn(caps, ["cat"]) as process:
            await process.wait()
        for event in proxy.drain_audit_events():
            port: int | None = event["port"]
            print(event["decision"] == "deny", port, code)
        async for record in proxy.audit_events():
            print(record.target, record.to_dict()["outcome"])
    report = done.session_diagnostics()
    print([found.get("hint") for found in report["diagnostics"]])
    try:
        learned = learn(["true"], ["offline"], cwd=work)
        print(run(None, learned.groups, ["true"]).resolved.skipped_paths)
    except nono_py.PathError as error:
        print(error.errno, error.filename, error.diagnostic_code)
    except nono_py.PolicyError as error:
        print(error.line, (error.remediation or {}).get("kind"))


def mistakes(caps: CapabilitySet) -> None:
    caps.allow_path("/usr", "read")  # pyright: ignore[reportArgumentType]
    sandboxed_exec(caps, "true", nonsense=1)  # pyright: ignore[reportCallIssue]
    ProxyConfig(audit_overflow="drop")  # pyright: ignore[reportArgumentType]
    AccessMode.READ = AccessMode.WRITE  # pyright: ignore[reportAttributeAccessIssue]
