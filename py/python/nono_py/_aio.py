"""What is awaited: `async with` for a proxy, and sandboxed programs on the running event loop.

There is no thread for a program. All that has to be known of one becomes readable, and the loop
watches it.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import selectors
import signal
import struct
import termios
from collections.abc import Awaitable, Callable, Iterable
from io import FileIO
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


class _Watch:
    """Calls back whenever a descriptor is readable, until it is ended.

    It ends before its descriptor is closed: the number may be given to another one, whose watch
    would then be taken for this one. So nobody else may close what is watched.
    """

    def __init__(self, fd: int, callback: Callable[[], object]) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, callback)

    def end(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._fd = -1


async def _until_readable(fd: int, patience: float | None = None) -> None:
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    watch = _Watch(fd, lambda: None if ready.done() else ready.set_result(None))
    try:
        await asyncio.wait([ready], timeout=patience)
    finally:
        watch.end()


async def next_event(source: AuditEvents) -> AuditEvent:
    """Wait for the next event; there is none when the proxy has ended or the source is closed."""
    while True:
        try:
            event = source._poll()
        except StopIteration:
            raise StopAsyncIteration from None
        if event is not None:
            return event
        if (fd := source._watch()) is not None:
            try:
                await _until_readable(fd)
            finally:
                os.close(fd)
                source._unwatch()


async def sandboxed_exec_async(
    caps: CapabilitySet, command: "_Words", **options: "Unpack[_Options]"
) -> ExecResult:
    """Run a program that can touch only what `caps` grants, and wait for its end.

    The arguments are those of `sandboxed_exec`. When the awaiting task is cancelled, the program
    and all that it has started are killed before the cancellation goes on.
    """
    return await _collect(
        _Command._called("sandboxed_exec_async", (caps, command), options).start()
    )


async def _collect(run: _Run) -> ExecResult:
    done: asyncio.Future[ExecResult] = asyncio.get_running_loop().create_future()

    def step() -> None:
        if done.done():
            return
        try:
            result = run.advance()
        except Exception as error:
            done.set_exception(error)
        else:
            if result is None:
                ready.keep(run.fds())
            else:
                done.set_result(result)

    async def until_done() -> None:
        while not done.done():
            await asyncio.wait([done], timeout=run.patience())
            # Nothing that is readable tells that the end is overdue.
            step()

    try:
        with contextlib.closing(_Set(run.fds(), step)) as ready:
            try:
                await until_done()
            except asyncio.CancelledError:
                run.cancel()
                await until_done()
                done.exception()
                raise
    finally:
        run.close()
    return done.result()


class _Set:
    """Calls back whenever one of some descriptors is readable.

    Others may close them: what the loop watches is the set, whose number stays its own. A selector
    that has no number, such as gevent's, is no such set; then each is watched, until it is left out
    right after it was closed.
    """

    def __init__(self, fds: Iterable[int], callback: Callable[[], object]) -> None:
        self._selector = selectors.DefaultSelector()
        self._fds = set(fds)
        self._watches: dict[int, _Watch] = {}
        number = getattr(self._selector, "fileno", None)
        if number is None:
            self._watches = {fd: _Watch(fd, callback) for fd in self._fds}
            return
        for fd in self._fds:
            self._selector.register(fd, selectors.EVENT_READ)
        self._watches[number()] = _Watch(number(), callback)

    def keep(self, fds: Iterable[int]) -> None:
        """Leave out all but these."""
        for fd in self._fds.difference(fds):
            self._fds.discard(fd)
            # Also one that was closed, and is out already.
            if fd in self._watches:
                self._watches.pop(fd).end()
            else:
                self._selector.unregister(fd)

    def close(self) -> None:
        for watch in self._watches.values():
            watch.end()
        self._selector.close()


async def sandboxed_spawn(
    caps: CapabilitySet, command: "_Words", **options: "Unpack[_Options]"
) -> "Process":
    """Start a program that can touch only what `caps` grants, and return it when it has begun.

    The arguments are those of `sandboxed_exec`. What is not given is `/dev/null` for stdin, and a
    pipe for stdout and stderr.
    """
    terminal = bool(options.get("pty"))
    child = _Command._called("sandboxed_spawn", (caps, command), options).spawn()
    process = Process(child, terminal)
    try:
        await process._begin()
    except BaseException:
        process._abandon()
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
        self._screen: FileIO | None = None
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[ExecResult] = self._loop.create_future()
        self._unconnected: list[FileIO] = []
        self._transports: list[asyncio.BaseTransport] = []
        self._end_watch: _Watch | None = None
        self._overdue: asyncio.TimerHandle | None = None

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
        self._watch_overdue()

    def set_window_size(self, rows: int, columns: int) -> None:
        """Tell the program's terminal its size."""
        if self._screen is None or self._screen.closed:
            number = errno.ENOTTY if self._screen is None else errno.EIO
            raise OSError(number, os.strerror(number))
        if not (0 <= rows < 2**16 and 0 <= columns < 2**16):
            raise ValueError(f"rows and columns must be from 0 to 65535, not {rows} and {columns}")
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._screen, termios.TIOCSWINSZ, size)

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
        ended = self._ended
        # Not asked of one whose end could not be learned, which raises.
        is_known = ended.done() and not ended.cancelled() and not ended.exception()
        return f"<Process {self.pid} returncode={self.returncode if is_known else None}>"

    async def _begin(self) -> None:
        while not self._child.try_begun():
            if (fd := self._child.begun_fd()) is None:
                break
            await _until_readable(fd, self._child.patience())
        self._pid = self._child.pid
        self._watch_end()
        stdin, stdout, stderr = self._open(self._child.take_streams())
        if stdout is not None:
            self.stdout = await self._reader(stdout)
            self._screen = stdout if self._terminal else None
        if stderr is not None:
            self.stderr = await self._reader(stderr)
        if stdin is not None:
            self.stdin = await self._writer(stdin)

    def _open(self, fds: tuple[int | None, ...]) -> list[FileIO | None]:
        """Return the streams with these descriptors, of which the first is written to."""
        modes = ("wb", "rb", "rb")
        streams = [
            None if fd is None else FileIO(fd, mode) for fd, mode in zip(fds, modes, strict=True)
        ]
        self._unconnected = [stream for stream in streams if stream is not None]
        return streams

    def _watch_end(self) -> None:
        fd = self._child.ended_fd()
        if fd is None:
            return

        self._end_watch = _Watch(fd, self._end)
        self._watch_overdue()

    def _watch_overdue(self) -> None:
        """Give up the end when it is overdue: nothing that becomes readable tells that."""
        if self._end_watch is None or self._ended.done():
            return
        if self._overdue is not None:
            self._overdue.cancel()
        if (patience := self._child.patience()) is not None:
            self._overdue = self._loop.call_later(patience, self._end)

    def _end(self) -> None:
        self._stop_watching()
        try:
            self._ended.set_result(self._child.wait())
        except Exception as error:
            self._ended.set_exception(error)
        self._child.close()

    def _stop_watching(self) -> None:
        if self._end_watch is not None:
            self._end_watch.end()
        if self._overdue is not None:
            self._overdue.cancel()

    async def _reader(self, stream: FileIO) -> asyncio.StreamReader:
        reader = asyncio.StreamReader(LIMIT, self._loop)
        protocol = _Terminal(reader) if self._terminal else asyncio.StreamReaderProtocol(reader)
        await self._connect(self._loop.connect_read_pipe, protocol, stream)
        return reader

    async def _writer(self, stream: FileIO) -> asyncio.StreamWriter:
        # It reads nothing; it is what a writer waits by.
        protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=self._loop))
        transport = await self._connect(self._loop.connect_write_pipe, protocol, stream)
        return asyncio.StreamWriter(transport, protocol, None, self._loop)

    async def _connect(
        self, connect: Callable[..., Any], protocol: asyncio.Protocol, stream: FileIO
    ) -> Any:
        # From here on the transport closes it.
        self._unconnected.remove(stream)
        transport, _ = await connect(lambda: protocol, stream)
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

    def _abandon(self) -> None:
        """Give up what has not begun as a whole, and kill the program."""
        self._stop_watching()
        self._close()
        for stream in self._unconnected:
            stream.close()
        self._child.close()


class _Terminal(asyncio.StreamReaderProtocol):
    """Reads a terminal, whose end is an error to the kernel."""

    def connection_lost(self, exc: Exception | None) -> None:
        is_end = isinstance(exc, OSError) and exc.errno == errno.EIO
        super().connection_lost(None if is_end else exc)


async def _read(stream: asyncio.StreamReader | None) -> bytes | None:
    return None if stream is None else await stream.read()


# Where it is found by users, and by `pickle`.
Process.__module__ = "nono_py"
