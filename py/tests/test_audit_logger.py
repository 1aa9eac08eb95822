"""Records to Python's `logging`."""

import logging
import threading

import pytest
from nono_py import AuditLogger, ProxyConfig, ProxyHandle, start_proxy
from test_audit import refuse


def sequence(record: logging.LogRecord) -> int:
    return int(record.__dict__["audit"].sequence)


class Kept(logging.Handler):
    """Keeps the sequence numbers of what it is given, and raises what it is told to at one."""

    def __init__(self, fault: BaseException | None = None, at: int = 1) -> None:
        super().__init__()
        self.sequences: list[int] = []
        self.fault, self.at = fault, at

    def emit(self, record: logging.LogRecord) -> None:
        if self.fault is not None and sequence(record) == self.at:
            raise self.fault
        self.sequences.append(sequence(record))


def logger_of(handler: logging.Handler) -> logging.Logger:
    logger = logging.Logger("one")
    logger.addHandler(handler)
    return logger


def test_a_handler_that_raises_loses_its_record_alone(capsys: pytest.CaptureFixture[str]) -> None:
    kept = Kept(LookupError("mine"))
    with start_proxy(ProxyConfig()) as proxy, AuditLogger(proxy, logger_of(kept)):
        refuse(proxy, 4)
    assert kept.sequences == [0, 2, 3]
    said = capsys.readouterr().err
    assert said.startswith("--- Logging error ---\nTraceback")
    assert said.endswith("LookupError: mine\n")


def test_what_a_handler_raises_is_printed_only_where_logging_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    kept = Kept(LookupError("mine"))
    with start_proxy(ProxyConfig()) as proxy, AuditLogger(proxy, logger_of(kept)):
        refuse(proxy, 2)
    assert (kept.sequences, capsys.readouterr().err) == ([0], "")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_logger_that_has_ended_holds_no_records() -> None:
    with start_proxy(ProxyConfig(audit_records=64, audit_disk_bytes=0)) as proxy:
        before = set(threading.enumerate())
        log = AuditLogger(proxy, logger_of(Kept(SystemExit(), at=0)))
        (thread,) = set(threading.enumerate()) - before
        refuse(proxy, 1)
        thread.join(20)
        for _ in range(4):
            refuse(proxy, 32)
            assert {event["status"] for event in proxy.drain_audit_events()} == {404}
        log.close()


def test_closing_a_logger_ends_also_while_requests_go_on() -> None:
    most = 400

    class Busy(Kept):
        """Sees to it that there is always more."""

        def emit(self, record: logging.LogRecord) -> None:
            super().emit(record)
            if len(self.sequences) < most:
                refuse(proxy, 2)

    busy = Busy()
    proxy: ProxyHandle
    with start_proxy(ProxyConfig()) as proxy:
        log = AuditLogger(proxy, logger_of(busy))
        refuse(proxy, 10)
        log.close()
        assert busy.sequences[:10] == list(range(10))
        assert len(busy.sequences) < most
