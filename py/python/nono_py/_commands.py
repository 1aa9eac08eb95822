"""`nono-py run`, `learn`, `explain` and `policy`: policies from the command line."""

import argparse
import contextlib
import os
import shlex
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from nono_py import (
    AccessMode,
    CapabilitySet,
    ExecResult,
    Policy,
    QueryContext,
    _planted,
    embedded_policy_json,
    policy_schema_json,
    sandboxed_exec,
)
from nono_py._explain import explain
from nono_py._policy import load, run
from nono_py.limited import FLAGS, check_processes, parse_memory

NAMES = frozenset({"explain", "learn", "policy", "run"})
#: What a command line says of a mode, and what it means.
_MODES = {str(mode): mode for mode in AccessMode}
#: What helps where the command itself is not granted.
_DIRECTORIES = "grant the directories that it needs by `--read`"
_PROGRAMS = (
    "choose a group that has the command (`-g system_read_linux` has the system's own, and "
    f"`nono-py policy groups` lists all), or {_DIRECTORIES}"
)


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands `run`, `learn`, `explain` and `policy` to a parser."""
    runs = commands.add_parser("run", help="run a command under groups of a policy")
    _add_choice(runs)
    _add_grants(runs)
    runs.add_argument(
        "--session", metavar="DIR", help="keep a record of the run in this directory; else none is"
    )
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


def _add_grants(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `nono run`, which `limited.caps_to_flags` writes."""
    parser.add_argument(
        "--bare",
        action="store_true",
        help="no policy: exactly what the flags grant, and the whole environment",
    )
    for access, (directory, file) in FLAGS.items():
        for flag, kind in ((directory, "directory"), (file, "file")):
            text = f"grant {access} to a {kind}, besides the groups"
            parser.add_argument(flag, action="append", default=[], metavar="PATH", help=text)
    parser.add_argument("--block-net", action="store_true", help="without the network")
    parser.add_argument("--memory", metavar="SIZE", help="bytes, or 512M or 2GiB")
    parser.add_argument("--max-processes", type=int, metavar="N", help="at a time")


def main(arguments: argparse.Namespace) -> int:
    """Run the command that was asked for and return its exit code."""
    commands = {"run": _run, "learn": _learn, "explain": _explain, "policy": _show}
    try:
        return commands[arguments.command](arguments)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        if getattr(error, "diagnostic_code", None) == "program_not_granted":
            is_bare = getattr(arguments, "bare", False)
            print(f"note: {_DIRECTORIES if is_bare else _PROGRAMS}", file=sys.stderr)
        return 125


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    options = {"cwd": arguments.cwd, "timeout_secs": arguments.timeout}
    return {name: value for name, value in options.items() if value is not None}


def _learn(arguments: argparse.Namespace) -> int:
    from nono_py._learn import learn

    say = partial(print, file=sys.stderr)
    with _destination(arguments.output) as output:
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
            say(f"secret or another program's, so that nothing is granted for it: {secret}")
        for note in done.notes:
            say(f"note: {note}")
        _hand_out(done.policy, output)
    if done.result.exit_code:
        say(f"the command ended with {done.result.exit_code}: there may be more to learn")
    file = "FILE" if arguments.output is None else shlex.quote(str(arguments.output))
    groups = " ".join(f"-g {name}" for name in done.groups)
    words = shlex.join(arguments.words)
    say(f"read it, then: nono-py run --policy {file} {groups} -- {words}")
    return _exit_code(done.result.exit_code)


@contextlib.contextmanager
def _destination(path: Path | None) -> Iterator[TextIO | None]:
    """Open the file for a policy before what it is learned from runs, which may run once only.

    What is in it stays until the policy is written over it; one made here is not left empty.
    """
    if path is None:
        yield None
        return
    is_new = not path.exists()
    with path.open("a", encoding="utf-8") as file:
        try:
            yield file
        except BaseException:
            if is_new:
                path.unlink(missing_ok=True)
            raise


def _hand_out(policy: str, file: TextIO | None) -> None:
    """Write a policy to its file, or print it: also if the file does not take it."""
    if file is None:
        print(policy, end="")
        return
    try:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.truncate(0)
        file.write(policy)
        file.flush()
    except OSError:
        print(policy, end="")
        raise


def _exit_code(code: int) -> int:
    """Return an exit code as shells have it for a command that a signal ended."""
    return code if code >= 0 else 128 - code


def _run(arguments: argparse.Namespace) -> int:
    options = _options(arguments) | _limits(arguments)
    options |= {
        "session": arguments.session,
        "stdin": sys.stdin,
        "stdout": sys.stdout,
        "stderr": sys.stderr,
    }
    rules = _Rules.of(arguments)
    _check_planting(rules)
    done = rules.run(arguments.words, options)
    if done.exit_code:
        # The files may be others by now, and the result is what counts.
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            _name_ungranted(arguments, rules)
    return _exit_code(done.exit_code)


@dataclass(frozen=True)
class _Rules:
    """What a command is run under: the flags' grants and, if it is not bare, a policy's groups."""

    caps: CapabilitySet
    policy: Policy | None
    groups: list[str]

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> "_Rules":
        if not arguments.bare:
            # Once, for it may come from a pipe.
            return cls(_granted(arguments), load(arguments.policy), arguments.group)
        if arguments.policy is not None or arguments.group:
            raise ValueError(
                "--bare is without a policy: it goes with neither --policy nor --group"
            )
        return cls(_granted(arguments), None, [])

    def allows(self, path: Path, mode: AccessMode) -> bool:
        if self.policy is None:
            return QueryContext(self.caps).query_path(path, mode)["status"] == "allowed"
        return explain(self.policy, self.groups, path=path, mode=mode, caps=self.caps).allowed

    def run(self, words: list[str], options: dict[str, Any]) -> ExecResult:
        if self.policy is None:
            return sandboxed_exec(self.caps, words, inherit_env=True, **options)
        done = run(self.policy, self.groups, words, caps=self.caps, **options)
        for note in done.notes:
            print(f"note: {note}", file=sys.stderr)
        return done.result


def _check_planting(rules: _Rules) -> None:
    """Refuse to let a command write what `python -m nono_py` itself would run the next time."""
    place = _planted.PLACE
    if place is not None and rules.allows(Path(place), AccessMode.WRITE):
        raise ValueError(
            f"the command may write {place}, where `python -m nono_py` looks for its own modules "
            "first: what it puts there would run without a sandbox the next time. Call it as "
            "`nono-py`, or as `python -P -m nono_py` (since 3.11), which do not look there"
        )


def _name_ungranted(arguments: argparse.Namespace, rules: _Rules) -> None:
    """Name what the command line names and the command could not read: its words are the user's."""
    of_directory, of_file = FLAGS["read"]
    for word in filter(None, arguments.words[1:]):
        path = Path(arguments.cwd or "", word)
        if not _is_there(path) or rules.allows(path, AccessMode.READ):
            continue
        grant = f"{of_directory} {shlex.quote(str(path))}"
        if not path.is_dir():
            place = shlex.quote(str(path.parent))
            grant = f"{of_file} {shlex.quote(str(path))}, or {of_directory} {place} with it"
        print(f"note: the command may not read {word} without {grant}", file=sys.stderr)


def _is_there(path: Path) -> bool:
    """Return whether there is such a file; a word may be too long for one, or no name at all."""
    try:
        path.stat()
    except (OSError, ValueError):
        return False
    return True


def _granted(arguments: argparse.Namespace) -> CapabilitySet:
    """Return a set of what the flags grant."""
    caps = CapabilitySet()
    for access, (directory, file) in FLAGS.items():
        for path in _given(arguments, directory):
            caps.allow_path(path, _MODES[access])
        for path in _given(arguments, file):
            caps.allow_file(path, _MODES[access])
    if arguments.block_net:
        caps.block_network()
    return caps


def _given(arguments: argparse.Namespace, flag: str) -> list[str]:
    paths: list[str] = getattr(arguments, flag.lstrip("-").replace("-", "_"))
    return paths


def _limits(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options of the limits that were asked for, which must hold."""
    limits: dict[str, Any] = {}
    if arguments.memory is not None:
        limits["max_memory_bytes"] = parse_memory(arguments.memory)
    if arguments.max_processes is not None:
        limits["max_processes"] = check_processes(arguments.max_processes)
    return limits and limits | {"require_limits": True}


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
