"""`nono-py`: run, learn and explain policies, keep keys, and see what is supported."""

import argparse
import signal
import sys
from types import FrameType

from nono_py import __version__, _audit, _commands, _credential, support_info

#: What ends a command.
_ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def main() -> int:
    """Run the command that was asked for and return its exit code, as shells have it."""
    for number in _ENDING:
        # Who has it ignored, as `nohup` does, goes on.
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _end)
    try:
        return _run(_parse())
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _end(number: int, _frame: FrameType | None) -> None:
    """Leave every block on the way out: programs are ended, and directories removed."""
    # One is enough, and another, of whatever kind, would leave them half removed.
    for each in _ENDING:
        signal.signal(each, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="nono-py", description="Sandbox and proxy.")
    parser.add_argument("--version", action="version", version=f"nono-py {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("demo", help="let an agent use an API whose key it cannot find")
    commands.add_parser("support", help="say what sandboxing this machine offers")
    _credential.add_commands(commands)
    _audit.add_commands(commands.add_parser("audit", help="check, follow or count a log file"))
    _commands.add_commands(commands)
    return parser.parse_args()


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "credential":
        return _credential.main(arguments)
    if arguments.command == "audit":
        return _audit.run(arguments)
    if arguments.command in _commands.NAMES:
        return _commands.main(arguments)
    if arguments.command == "support":
        info = support_info()
        print(f"{info.platform}: {info.details}")
        return 0 if info.is_supported else 1
    # Its requirements are an extra, so that it is imported only when it is run.
    from nono_py._demo import main as demo

    return demo()


if __name__ == "__main__":
    sys.exit(main())
