"""`python -m nono_py run`, `learn`, `explain` and `policy`: policies from the command line."""

import argparse
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Any

from nono_py import (
    AccessMode,
    embedded_policy_json,
    policy_schema_json,
)
from nono_py._policy import explain, load, run

NAMES = frozenset({"explain", "learn", "policy", "run"})
#: What a command line says of a mode, and what it means.
_MODES = {str(mode): mode for mode in AccessMode}


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands `run`, `learn`, `explain` and `policy` to a parser."""
    runs = commands.add_parser("run", help="run a command under groups of a policy")
    _add_choice(runs)
    runs.add_argument("--cwd", help="the directory to run in")
    runs.add_argument("--timeout", type=float, help="seconds; then it is killed")
    runs.add_argument("words", nargs="+", metavar="WORD", help="the command, after --")
    learns = commands.add_parser(
        "learn",
        help="run a command WITHOUT a sandbox, and print the smallest policy that covers it",
    )
    _add_choice(learns)
    learns.add_argument("-o", "--output", type=Path, metavar="FILE", help="where the policy goes")
    learns.add_argument("--cwd", help="the directory to run in")
    learns.add_argument("--timeout", type=float, help="seconds; then it is killed")
    learns.add_argument("words", nargs="+", metavar="WORD", help="the command, after --")
    explains = commands.add_parser("explain", help="say why something is allowed or denied")
    _add_choice(explains)
    explains.add_argument("--mode", choices=sorted(_MODES), default="read", help="of --path")
    asked = explains.add_mutually_exclusive_group(required=True)
    asked.add_argument("--path", help="a file or directory")
    asked.add_argument("--host", help="a host, or host:port")
    asked.add_argument(
        "--endpoint", nargs=2, metavar=("METHOD", "PATH"), help="like GET /openai/v1/models"
    )
    shows = commands.add_parser("policy", help="list groups, or print a policy or the schema")
    shows.add_argument("--policy", metavar="FILE", help="instead of the embedded policy")
    shows.add_argument("what", choices=["groups", "embedded", "schema"])


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policy", metavar="FILE", help="instead of the embedded policy")
    parser.add_argument(
        "-g", "--group", action="append", default=[], metavar="NAME", help="choose a group"
    )


def main(arguments: argparse.Namespace) -> int:
    """Run the command that was asked for and return its exit code."""
    commands = {"run": _run, "learn": _learn, "explain": _explain, "policy": _show}
    try:
        return commands[arguments.command](arguments)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 125


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    options = {"cwd": arguments.cwd, "timeout_secs": arguments.timeout}
    return {name: value for name, value in options.items() if value is not None}


def _learn(arguments: argparse.Namespace) -> int:
    from nono_py._learn import learn

    say = partial(print, file=sys.stderr)
    say("learning: THIS IS NO SANDBOX, the command can do all that you can")
    done = learn(
        arguments.words,
        arguments.group,
        policy=arguments.policy,
        stdin=sys.stdin,
        # The policy alone is the output.
        stdout=sys.stderr,
        stderr=sys.stderr,
        **_options(arguments),
    )
    for secret in done.secrets:
        say(f"not granted, since it is secret or another program's: {secret}")
    for note in done.notes:
        say(f"note: {note}")
    if done.result.exit_code:
        say(f"the command ended with {done.result.exit_code}: there may be more to learn")
    if arguments.output is None:
        print(done.policy, end="")
    else:
        arguments.output.write_text(done.policy, encoding="utf-8")
    file = "FILE" if arguments.output is None else shlex.quote(str(arguments.output))
    groups = " ".join(f"-g {name}" for name in done.groups)
    words = shlex.join(arguments.words)
    say(f"read it, then: python -m nono_py run --policy {file} {groups} -- {words}")
    return _exit_code(done.result.exit_code)


def _exit_code(code: int) -> int:
    """Return an exit code as shells have it for a command that a signal ended."""
    return code if code >= 0 else 128 - code


def _run(arguments: argparse.Namespace) -> int:
    done = run(
        arguments.policy,
        arguments.group,
        arguments.words,
        stdin=sys.stdin,
        stdout=sys.stdout,
        stderr=sys.stderr,
        **_options(arguments),
    )
    return _exit_code(done.exit_code)


def _explain(arguments: argparse.Namespace) -> int:
    host, port = _split(arguments.host)
    said = explain(
        arguments.policy,
        arguments.group,
        path=arguments.path,
        mode=_MODES[arguments.mode],
        host=host,
        port=port,
        endpoint=arguments.endpoint and tuple(arguments.endpoint),
    )
    print(said)
    return 0 if said.allowed else 1


def _split(host: str | None) -> tuple[str | None, int]:
    """Split `host:port`; an IPv6 address has its port behind brackets."""
    if host is None:
        return None, 443
    name, colon, port = host.rpartition(":")
    if colon and port.isdecimal() and (":" not in name or name.endswith("]")):
        return name, int(port)
    return host, 443


def _show(arguments: argparse.Namespace) -> int:
    if arguments.what == "schema":
        print(policy_schema_json(), end="")
    elif arguments.what == "embedded":
        print(embedded_policy_json(), end="")
    else:
        policy = load(arguments.policy)
        required = set(policy.required_groups())
        for name in policy.group_names():
            mark = " (required)" if name in required else ""
            print(f"{name}{mark}: {policy.group_description(name)}")
    return 0
