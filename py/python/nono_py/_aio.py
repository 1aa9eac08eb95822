"""What is awaited: `async with` for a proxy, and sandboxed programs on the running event loop.

There is no thread for a program. All that has to be known of one becomes readable, and the loop
watches it.
"""

import asyncio
import errno
import fcntl
import os
import signal
import struct
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from nono_py._nono_py import (
    AuditEvent,
    AuditEvents,
    CapabilitySet,
    ExecResult,
    ProxyHandle,
    _Child,
    _Command,
    _Run,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from nono_py._nono_py import _Options, _Words

#: Bytes that a stream reader holds before the program has to wait, and so of the longest line.
LIMIT = 2**20


async def enter(proxy: ProxyHandle) -> ProxyHandle:
    """Enter the block; the proxy is running already."""
    return proxy


async def leave(proxy: ProxyHandle) -> None:
    """Shut the proxy down without holding up the loop."""
    await asyncio.to_thread(proxy.shutdown)


def run(awaitable: Awaitable[object]) -> object:
    """Wait for what a credential's callable returned, on a loop of this thread's own."""

    async def wait() -> object:
        return await awaitable

    return asyncio.run(wait())


async def events(source: AuditEvents) -> AsyncIterator[AuditEvent]:
    """Yield the events as they come, until the proxy has ended."""
    loop = asyncio.get_running_loop()
    fd = source._fileno()
    while True:
        try:
            event = source._poll()
        except StopIteration:
            return
        if event is not None:
            yield event
            continue
        ready = asyncio.Event()
        loop.add_reader(fd, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(fd)


async def sandboxed_exec_async(
    caps: CapabilitySet, command: "_Words", **options: "Unpack[_Options]"
) -> ExecResult:
    """Run a program that can touch only what `caps` grants, and wait for its end.

    The arguments are those of `sandboxed_exec`. When the awaiting task is cancelled, the program
    and all that it has started are killed before the cancellation goes on.
    """
    return await _collect(_Command(caps, command, **options).start())


async def _collect(run: _Run) -> ExecResult:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[ExecResult] = loop.create_future()
    watched: set[int] = set()

    def step() -> None:
        if done.done():
            return
        open_fds: list[int] = []
        try:
            result = run.advance()
        except Exception as error:
            done.set_exception(error)
        else:
            if result is None:
                open_fds = run.fds()
            else:
                done.set_result(result)
        # Now, since the next run that the loop starts may be given the numbers of what is closed.
        for fd in watched.difference(open_fds):
            watched.discard(fd)
            loop.remove_reader(fd)

    for fd in run.fds():
        watched.add(fd)
        loop.add_reader(fd, step)
    try:
        await asyncio.wait([done])
    except asyncio.CancelledError:
        run.cancel()
        await asyncio.wait([done])
        done.exception()
        raise
    finally:
        for fd in watched:
            loop.remove_reader(fd)
        run.close()
    return done.result()


async def sandboxed_spawn(
    caps: CapabilitySet, command: "_Words", **options: "Unpack[_Options]"
) -> "Process":
    """Start a program that can touch only what `caps` grants, and return it when it has begun.

    The arguments are those of `sandboxed_exec`. What is not given is `/dev/null` for stdin, and a
    pipe for stdout and stderr.
    """
    terminal = bool(options.get("pty"))
    child = _Command(caps, command, **options).spawn()
    process = Process(child, terminal)
    try:
        await process._begin()
    except BaseException:
        process._close()
        child.close()
        raise
    return process


class Process:
    """A running program, shaped like `asyncio.subprocess.Process`.

    As an async context manager it is killed at the end of the block if it still runs.
    """

    def __init__(self, child: _Child, terminal: bool) -> None:
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._child = child
        self._pid = 0
        self._terminal = terminal
        self._terminal_fd = -1
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[ExecResult] = self._loop.create_future()
        self._transports: list[asyncio.BaseTransport] = []

    @property
    def pid(self) -> int:
        """The process number of the program."""
        return self._pid

    @property
    def returncode(self) -> int | None:
        """The exit code; None as long as anything that the program started runs."""
        if not self._ended.done():
            return None
        return self._ended.result().exit_code

    @property
    def result(self) -> ExecResult | None:
        """All that is known of the end; its `stdout` and `stderr` are empty."""
        return self._ended.result() if self._ended.done() else None

    async def wait(self) -> int:
        """Wait until the program and all that it started have ended, and return the exit code."""
        await asyncio.wait([self._ended])
        return self._ended.result().exit_code

    def send_signal(self, signal: int) -> None:
        """Send a signal to the program alone."""
        if not 0 < signal < 65:
            raise ValueError(f"invalid signal: {signal}")
        self._child.send_signal(signal)

    def terminate(self) -> None:
        """Ask the program to end, by SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the program and all that it has started."""
        self._child.kill()

    def set_window_size(self, rows: int, columns: int) -> None:
        """Tell the program's terminal its size."""
        if not self._terminal:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._terminal_fd, termios.TIOCSWINSZ, size)

    async def communicate(
        self,
        input: bytes | None = None,  # noqa: A002 - as `subprocess` has it
    ) -> tuple[bytes | None, bytes | None]:
        """Write `input`, read both streams to their ends, and wait."""
        _, stdout, stderr, _ = await asyncio.gather(
            self._feed(input), _read(self.stdout), _read(self.stderr), self.wait()
        )
        return stdout, stderr

    async def __aenter__(self) -> "Process":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        self.kill()
        try:
            await self.wait()
        finally:
            self._close()

    def __repr__(self) -> str:
        return f"<Process {self.pid} returncode={self.returncode}>"

    async def _begin(self) -> None:
        await self._until_begun()
        self._pid = self._child.pid
        stdin, stdout, stderr = self._child.take_streams()
        self._watch_end()
        if stdout is not None:
            self._terminal_fd = stdout
            self.stdout = await self._reader(stdout)
        if stderr is not None:
            self.stderr = await self._reader(stderr)
        if stdin is not None:
            self.stdin = await self._writer(stdin)

    async def _until_begun(self) -> None:
        while not self._child.try_begun():
            fd = self._child.begun_fd()
            if fd is None:
                return
            ready = asyncio.Event()
            self._loop.add_reader(fd, ready.set)
            try:
                await ready.wait()
            finally:
                self._loop.remove_reader(fd)

    def _watch_end(self) -> None:
        fd = self._child.ended_fd()
        if fd is None:
            return

        def end() -> None:
            self._loop.remove_reader(fd)
            try:
                self._ended.set_result(self._child.wait())
            except Exception as error:
                self._ended.set_exception(error)
            self._child.close()

        self._loop.add_reader(fd, end)

    async def _reader(self, fd: int) -> asyncio.StreamReader:
        reader = asyncio.StreamReader(LIMIT, self._loop)
        protocol = _Terminal(reader) if self._terminal else asyncio.StreamReaderProtocol(reader)
        await self._connect(self._loop.connect_read_pipe, protocol, fd, "rb")
        return reader

    async def _writer(self, fd: int) -> asyncio.StreamWriter:
        # It reads nothing; it is what a writer waits by.
        protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=self._loop))
        transport = await self._connect(self._loop.connect_write_pipe, protocol, fd, "wb")
        return asyncio.StreamWriter(transport, protocol, None, self._loop)

    async def _connect(
        self, connect: Callable[..., Any], protocol: asyncio.Protocol, fd: int, mode: str
    ) -> Any:
        transport, _ = await connect(lambda: protocol, os.fdopen(fd, mode, buffering=0))
        self._transports.append(transport)
        return transport

    async def _feed(self, data: bytes | None) -> None:
        if self.stdin is None:
            if data is not None:
                raise ValueError("stdin is no pipe")
            return
        try:
            if data is not None:
                self.stdin.write(data)
                await self.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            pass  # The program does not want it.
        if not self._terminal:
            self.stdin.close()

    def _close(self) -> None:
        for transport in self._transports:
            transport.close()


class _Terminal(asyncio.StreamReaderProtocol):
    """Reads a terminal, whose end is an error to the kernel."""

    def connection_lost(self, exc: Exception | None) -> None:
        is_end = isinstance(exc, OSError) and exc.errno == errno.EIO
        super().connection_lost(None if is_end else exc)


async def _read(stream: asyncio.StreamReader | None) -> bytes | None:
    return None if stream is None else await stream.read()


# Where it is found by users, and by `pickle`.
Process.__module__ = "nono_py"
