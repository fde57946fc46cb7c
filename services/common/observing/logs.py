"""JSON logs, one object per line, each with the trace and request it belongs to.

Every request logs a line, so the shop's own events take the short way: one function completes the
event, orjson makes a line of it, and one write hands that to the operating system. Nothing is
buffered, so nothing is lost when the process ends. What the libraries log goes through `logging`,
to the same place.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import structlog
from opentelemetry import trace

from services.common import context
from services.common.errors import ConfigurationError, ShopError

_MAX_FILE_BYTES = 32 * 1024 * 1024
_STANDARD_OUTPUT = 1  # a file descriptor
_LINE = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z

Logger = structlog.typing.FilteringBoundLogger


def configure_logging(
    *, service: str, version: str, instance: str, level: str, file: Path | None
) -> None:
    """Sends all logs of this process, the libraries' too, to standard output or to `file`, which is
    begun again when it is large; the one before it is kept beside it.

    What cannot be written, because the disk is full, is dropped and told on standard error; whoever
    logs does not notice.

    :raises ConfigurationError: `file` cannot be opened.
    """
    identity = {"service": service, "version": version, "instance": instance}
    lines = _LineHandler(file)

    def to_line(logger: _LineLogger, method: str, event: MutableMapping[str, Any]) -> bytes:
        event["level"] = method
        event["logger"] = logger.name
        if "exc_info" in event:
            structlog.processors.format_exc_info(logger, method, event)
        return _to_json(_completed(event, identity))

    def complete(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return _completed(event, identity)

    def make_logger(name: str = "") -> _LineLogger:
        return _LineLogger(name, lines)

    structlog.configure(
        processors=[to_line],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=make_logger,
        cache_logger_on_first_use=True,
    )
    lines.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.format_exc_info,
                structlog.stdlib.ExtraAdder(),
                complete,
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(serializer=_to_text),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [lines]
    root.setLevel(level.upper())
    for chatty in ("uvicorn.access", "asyncio", "aiosqlite", "stripe"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def get_logger(name: str) -> Logger:
    """A logger; `log.info("order.confirmed", order_id=…)`: an event name, then facts."""
    return structlog.get_logger(name)


def log_cause(log: Logger, error: ShopError) -> None:
    """Logs what is behind an error whose text, for the outside, does not tell."""
    if error.__cause__ is not None and not isinstance(error.__cause__, ShopError):
        log.warning("request.failed", code=error.code, cause=repr(error.__cause__))


class _LineHandler(logging.Handler):
    """Writes each line in one piece, with no buffer in between.

    :param file: None for standard output.
    :raises ConfigurationError: it cannot be opened.
    """

    def __init__(self, file: Path | None) -> None:
        super().__init__()
        self._file = file
        self._descriptor = _STANDARD_OUTPUT
        self._bytes = 0
        self._is_line_open = False
        if file is not None:
            try:
                self._open(file)
            except OSError as error:
                raise ConfigurationError(
                    f"The setting LOG_FILE is wrong: {file} cannot be opened ({error.strerror})."
                ) from error

    def emit(self, record: logging.LogRecord) -> None:
        self.write_line(self.format(record).encode())

    def write_line(self, line: bytes) -> None:
        """Writes a line, which comes without its end."""
        self.acquire()
        try:
            self._write(b"%s%s\n" % (b"\n" if self._is_line_open else b"", line))
        except OSError as error:
            with contextlib.suppress(OSError):  # the same disk may be full for it, too
                sys.stderr.write(f"A line of the log is lost: {error}\n")
        finally:
            self.release()

    def close(self) -> None:
        if self._file is not None and self._descriptor != _STANDARD_OUTPUT:
            os.close(self._descriptor)
            self._descriptor = _STANDARD_OUTPUT
        super().close()

    def _write(self, data: bytes) -> None:
        if self._file is not None and self._bytes + len(data) > _MAX_FILE_BYTES:
            self._begin_again(self._file)
        while data:
            written = os.write(self._descriptor, data)
            self._bytes += written
            data = data[written:]
            # A full disk may take the beginning of a line and refuse the rest of it.
            self._is_line_open = bool(data)

    def _begin_again(self, file: Path) -> None:
        file.replace(f"{file}.1")
        os.close(self._descriptor)
        self._open(file)

    def _open(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        self._bytes = os.fstat(self._descriptor).st_size


class _LineLogger:
    """What structlog hands finished lines to."""

    def __init__(self, name: str, lines: _LineHandler) -> None:
        self.name = name
        self.debug = self.info = self.warning = self.error = self.critical = lines.write_line


def _completed(
    event: MutableMapping[str, Any], identity: Mapping[str, str]
) -> MutableMapping[str, Any]:
    event["timestamp"] = datetime.now(UTC)
    span_context = trace.get_current_span().get_span_context()
    if span_context.is_valid:
        event["trace_id"] = trace.format_trace_id(span_context.trace_id)
        event["span_id"] = trace.format_span_id(span_context.span_id)
    request_id = context.current_request_id()
    if request_id is not None:
        event["request_id"] = request_id
    event.update(identity)
    return event


def _to_json(event: Any) -> bytes:
    return orjson.dumps(event, default=repr, option=_LINE)


def _to_text(event: Any, **_: Any) -> str:
    return _to_json(event).decode()
