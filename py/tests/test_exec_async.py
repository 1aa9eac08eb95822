"""Sandboxed programs on an event loop."""

import asyncio
import functools
import gc
import itertools
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any, cast

import pytest
from nono_py import CapabilitySet, Process, SandboxError, sandboxed_exec_async, sandboxed_spawn

pytestmark = pytest.mark.asyncio


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


@types.coroutine
def cancelled_at(work: Coroutine[Any, Any, Process], awaits: int) -> Generator[Any, Any, Process]:
    """Run `work`, and cancel the task when it waits after having waited so many times."""
    go_on: Callable[[], Any] = functools.partial(work.send, None)
    for waited in itertools.count():
        try:
            awaited = go_on()
        except StopIteration as end:
            return cast(Process, end.value)
        if waited == awaits and (task := asyncio.current_task()) is not None:
            task.cancel()
        try:
            yield awaited
        except BaseException as error:
            go_on = functools.partial(work.throw, error)
        else:
            go_on = functools.partial(work.send, None)
    raise AssertionError


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


class TestExec:
    async def test_returns_what_the_other_does(self, caps: CapabilitySet) -> None:
        result = await sandboxed_exec_async(
            caps, shell("cat; echo err >&2; exit 3"), input="in", timeout_secs=30
        )
        assert (result.stdout, result.stderr, result.exit_code) == (b"in", b"err\n", 3)

    async def test_reads_more_than_pipes_hold(self, caps: CapabilitySet) -> None:
        script = "yes | head -c 3000000 >&2 & yes | head -c 3000000; wait"
        result = await sandboxed_exec_async(caps, shell(script))
        assert (len(result.stdout), len(result.stderr)) == (3_000_000, 3_000_000)

    async def test_ends_with_its_time(self, caps: CapabilitySet) -> None:
        result = await sandboxed_exec_async(caps, shell("setsid sleep 60"), timeout_secs=0.3)
        assert result.timed_out

    async def test_raises_what_failed(self, caps: CapabilitySet) -> None:
        with pytest.raises(SandboxError, match=r"failed to execute .*/true") as caught:
            await sandboxed_exec_async(CapabilitySet(), ["/bin/true"])
        assert (caught.value.remediation or {})["kind"] == "grant_path"
        with pytest.raises(FileNotFoundError):
            await sandboxed_exec_async(caps, ["/bin/true"], cwd="/no/such/place")

    async def test_needs_no_selector_with_a_number(
        self, caps: CapabilitySet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As gevent's has none, which takes the place of all others."""
        monkeypatch.setattr(selectors, "DefaultSelector", selectors.PollSelector)
        before = descriptors()
        for _ in range(3):
            # One ends before the other, and its descriptors are closed while others are watched.
            scripts = [shell(f"sleep 0.{n}; echo {n}; echo err >&2") for n in range(5)]
            ends = asyncio.ensure_future(sandboxed_exec_async(caps, ["/bin/sleep", "60"]))
            runs = [sandboxed_exec_async(caps, script, timeout_secs=30) for script in scripts]
            results = await asyncio.gather(*runs)
            ends.cancel()
            with pytest.raises(asyncio.CancelledError):
                await ends
            said = [(result.text, result.stderr) for result in results]
            assert said == [(f"{n}\n", b"err\n") for n in range(5)]
        assert descriptors() <= before

    async def test_leaves_the_loop_free(self, caps: CapabilitySet) -> None:
        turns = 0
        run = asyncio.ensure_future(sandboxed_exec_async(caps, ["/bin/sleep", "0.5"]))
        while not run.done():
            turns += 1
            await asyncio.sleep(0.01)
        assert turns > 10

    async def test_cancelled_ends_all_that_was_started(
        self, caps: CapabilitySet, place: Path
    ) -> None:
        os.mkfifo(place / "leash")
        script = shell("exec 9>leash; (setsid sleep 60 &); sleep 60")
        run = asyncio.ensure_future(sandboxed_exec_async(caps, script, cwd=place))
        # Opened when the program has it open, and at its end when nobody has.
        leash = await asyncio.to_thread((place / "leash").open)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        with leash:
            assert await asyncio.wait_for(asyncio.to_thread(leash.read), 20) == ""

    async def test_cancelled_does_not_wait_for_what_does_not_answer(
        self, caps: CapabilitySet
    ) -> None:
        told, tell = os.pipe()
        script = shell("echo $PPID; exec sleep 60")
        run = asyncio.ensure_future(sandboxed_exec_async(caps, script, stdout=tell))
        os.kill(int(await asyncio.to_thread(os.read, told, 100)), signal.SIGSTOP)
        run.cancel()
        await asyncio.wait([run], timeout=60)
        assert run.cancelled()
        os.close(tell)
        # The program has ended with it.
        assert await asyncio.wait_for(asyncio.to_thread(os.read, told, 1), 20) == b""
        os.close(told)

    async def test_a_killed_one_that_does_not_answer_is_given_up(self, caps: CapabilitySet) -> None:
        process = await sandboxed_spawn(caps, shell("echo $PPID; exec sleep 60"))
        assert process.stdout is not None
        os.kill(int(await process.stdout.readline()), signal.SIGSTOP)
        process.kill()
        with pytest.raises(SandboxError, match="failed to watch"):
            await asyncio.wait_for(process.wait(), 60)
        assert repr(process) == f"<Process {process.pid} returncode=None>"
        # The program has ended with it.
        assert await asyncio.wait_for(process.stdout.read(), 20) == b""

    async def test_a_thousand_at_once(self, caps: CapabilitySet) -> None:
        before, threads = descriptors(), threading.active_count()
        runs = [sandboxed_exec_async(caps, ["/bin/echo", str(n)]) for n in range(1000)]
        results = await asyncio.wait_for(asyncio.gather(*runs), 120)
        assert [result.text for result in results] == [f"{n}\n" for n in range(1000)]
        assert descriptors() <= before
        assert threading.active_count() == threads

    async def test_one_after_the_other_while_others_run(self, caps: CapabilitySet) -> None:
        # Each is given descriptors whose numbers were those of one that has just ended.
        async def some() -> None:
            for _ in range(20):
                assert (await sandboxed_exec_async(caps, ["/bin/true"])).exit_code == 0

        await asyncio.wait_for(asyncio.gather(*(some() for _ in range(20))), 60)

    async def test_needs_no_thread_where_nobody_asks_for_the_network(
        self, caps: CapabilitySet
    ) -> None:
        def threads() -> int:
            return len(list(Path("/proc/self/task").iterdir()))

        caps.block_network()
        before = threads()
        script = shell("read line; echo $line")
        runs = [sandboxed_exec_async(caps, script, input="x\n") for _ in range(100)]
        most, ends = before, asyncio.gather(*runs)
        while not ends.done():
            most = max(most, threads())
            await asyncio.sleep(0)
        assert [result.text for result in await ends] == ["x\n"] * 100
        assert most == before

    async def test_many_cancelled(self, caps: CapabilitySet) -> None:
        before = descriptors()
        told, tell = os.pipe()
        script = shell("echo; exec sleep 100")
        runs = [
            asyncio.ensure_future(sandboxed_exec_async(caps, script, stdout=tell))
            for _ in range(200)
        ]
        # Some run for certain, and others may only begin.
        begun = 0
        while begun < 100:
            begun += len(await asyncio.to_thread(os.read, told, 100))
        for run in runs:
            run.cancel()
        done = await asyncio.wait_for(asyncio.gather(*runs, return_exceptions=True), 60)
        assert all(isinstance(end, asyncio.CancelledError) for end in done)
        os.close(told)
        os.close(tell)
        assert descriptors() <= before


class TestSpawn:
    async def test_talks_line_by_line(self, caps: CapabilitySet) -> None:
        async with await sandboxed_spawn(caps, ["/bin/cat"], stdin=subprocess.PIPE) as process:
            assert process.pid > 0
            assert process.returncode is None
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"one\ntwo\n")
            await process.stdin.drain()
            assert await process.stdout.readline() == b"one\n"
            process.stdin.close()
            await process.stdin.wait_closed()
            assert [line async for line in process.stdout] == [b"two\n"]
            assert await process.wait() == 0
            assert process.returncode == 0
            assert process.result is not None
            assert process.result.cpu_time >= 0

    async def test_communicates(self, caps: CapabilitySet) -> None:
        process = await sandboxed_spawn(
            caps, shell("cat; echo err >&2; exit 4"), stdin=subprocess.PIPE
        )
        data = b"x" * (1 << 20)
        assert await process.communicate(data) == (data, b"err\n")
        assert process.returncode == 4

    async def test_raises_what_failed(self, caps: CapabilitySet) -> None:
        before = descriptors()
        with pytest.raises(SandboxError, match=r"failed to execute .*/true") as caught:
            await sandboxed_spawn(CapabilitySet(), ["/bin/true"])
        assert (caught.value.remediation or {})["kind"] == "grant_path"
        assert descriptors() <= before

    async def test_cancelled_anywhere_leaves_nothing_behind(self, caps: CapabilitySet) -> None:
        loop = asyncio.get_running_loop()
        told: list[str] = []
        loop.set_exception_handler(lambda _, context: told.append(context["message"]))
        before = descriptors()

        async def cancelled(awaits: int) -> bool:
            spawning = sandboxed_spawn(caps, ["/bin/sleep", "60"], stdin=subprocess.PIPE)
            try:
                process = await cancelled_at(spawning, awaits)
            except asyncio.CancelledError:
                pass
            else:
                process.kill()
                await process.wait()
                return False
            # These have the numbers that the one before had.
            for _ in range(3):
                async with await sandboxed_spawn(caps, ["/bin/sleep", "60"]) as process:
                    process.kill()
                    assert await asyncio.wait_for(process.wait(), 20) == -signal.SIGKILL
            return True

        for _ in range(5):
            awaits = 0
            while await cancelled(awaits):
                awaits += 1
            # Three streams, and its beginning if that is not there at once.
            assert awaits in (3, 4)
        began = time.monotonic()
        while descriptors() > before:
            assert time.monotonic() - began < 20
            await asyncio.sleep(0.01)
        assert told == []

    async def test_takes_signals(self, caps: CapabilitySet) -> None:
        script = shell("trap 'echo usr; exit 9' USR1; echo ready; while :; do sleep 0.05; done")
        async with await sandboxed_spawn(caps, script) as process:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"ready\n"
            process.send_signal(signal.SIGUSR1)
            assert await process.stdout.readline() == b"usr\n"
            assert await process.wait() == 9
        async with await sandboxed_spawn(caps, ["/bin/sleep", "60"]) as process:
            process.terminate()
            assert await process.wait() == -signal.SIGTERM
            with pytest.raises(ValueError, match="invalid signal"):
                process.send_signal(0)

    async def test_kill_ends_the_tree(self, caps: CapabilitySet) -> None:
        process = await sandboxed_spawn(caps, shell("(setsid sleep 60 &); echo up; sleep 60"))
        assert process.stdout is not None
        assert await process.stdout.readline() == b"up\n"
        process.kill()
        assert await asyncio.wait_for(process.wait(), 20) == -signal.SIGKILL
        # The one that has left the session held it open as well.
        assert await asyncio.wait_for(process.stdout.read(), 20) == b""

    async def test_leaving_the_block_ends_the_program(self, caps: CapabilitySet) -> None:
        before = descriptors()
        began = time.monotonic()
        async with await sandboxed_spawn(caps, ["/bin/sleep", "60"]) as process:
            pass
        assert process.returncode == -signal.SIGKILL
        assert time.monotonic() - began < 20
        while descriptors() > before:
            assert time.monotonic() - began < 20
            await asyncio.sleep(0.01)

    async def test_has_a_terminal(self, caps: CapabilitySet) -> None:
        script = shell("stty -echo; stty size; read x; echo got $x; stty size; exec sleep 60")
        async with await sandboxed_spawn(caps, script, pty=(10, 20)) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert await process.stdout.readline() == b"10 20\r\n"
            for rows, columns in ((-1, 1), (1, 2**16)):
                with pytest.raises(ValueError, match="rows and columns must be from 0 to 65535"):
                    process.set_window_size(rows, columns)
            process.set_window_size(30, 40)
            process.stdin.write(b"typed\n")
            assert await process.stdout.readline() == b"got typed\r\n"
            assert await process.stdout.readline() == b"30 40\r\n"
            # What is typed goes through the terminal: Ctrl-C is a signal.
            process.stdin.write(b"\x03")
            assert await asyncio.wait_for(process.wait(), 20) == -signal.SIGINT
            assert await process.stdout.read() == b""

    async def test_is_typed_and_shown(self, caps: CapabilitySet) -> None:
        process: Process = await sandboxed_spawn(caps, [sys.executable, "-c", ""])
        assert repr(process) == f"<Process {process.pid} returncode=None>"
        await process.wait()
        assert process.returncode == 0
        with pytest.raises(OSError, match="ioctl"):
            process.set_window_size(1, 1)
