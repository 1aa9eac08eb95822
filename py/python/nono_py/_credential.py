"""`nono-py credential`: keep a key, try whether it can be had, list what is kept.

A key is read from the terminal without echo, or from standard input: arguments are visible to
other users. It is never printed.
"""

import argparse
import getpass
import sys

from nono_py._nono_py import _check_credential, _list_credentials, _store_credential

#: Bytes of the longest key that is read.
MOST = 2**20


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `credential` to a parser."""
    parser = commands.add_parser("credential", help="keep keys in the keyring, and try them")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    store = actions.add_parser("set", help="store a key, read from the terminal or stdin")
    store.add_argument("name", help="as in credential_key: a name, or keyring://service/account")
    check = actions.add_parser("check", help="try whether a key can be had and sent")
    check.add_argument("name", help="as in credential_key: a name, env://NAME, file:///path, ...")
    check.add_argument("--timeout", type=float, default=30.0, help="seconds; 30 by default")
    actions.add_parser("list", help="list the names of the keys in the keyring")


def main(arguments: argparse.Namespace) -> int:
    """Run the action that was asked for and return its exit code."""
    try:
        if arguments.action != "list":
            _check_text(arguments.name)
        if arguments.action == "set":
            _store_credential(arguments.name, _read())
            print(f"stored {arguments.name}")
        elif arguments.action == "check":
            _check_credential(arguments.name, arguments.timeout)
            print(f"{arguments.name} is there and can be sent")
        else:
            for name in _list_credentials():
                print(name)
    except (LookupError, NotImplementedError, RuntimeError, ValueError) as error:
        print(f"error: {error.args[0]}", file=sys.stderr)
        return 1
    return 0


def _check_text(name: str) -> None:
    """Refuse what no name is; what Python says of it is of no use to who typed it."""
    try:
        name.encode()
    except UnicodeError:
        raise ValueError("the name is not valid UTF-8") from None


def _read() -> bytes:
    """Return a key without the line ending; whether it can be one, is for who stores it to say."""
    if sys.stdin is None:
        raise ValueError("standard input is closed: give the key there, or call this in a terminal")
    if not sys.stdin.isatty():
        key = sys.stdin.buffer.read(MOST + 1)
        if len(key) > MOST:
            raise ValueError(f"standard input holds more than {MOST} bytes: that is no key")
        return key.removesuffix(b"\n").removesuffix(b"\r")
    try:
        return getpass.getpass("key: ").encode()
    except EOFError:
        raise ValueError("no key was given") from None
    except UnicodeError:
        # Without what was wrong: it is a part of the key.
        message = "the key is not valid UTF-8 as it was typed: give it on standard input"
        raise ValueError(message) from None
