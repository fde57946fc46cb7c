"""JSON logs, one object per line, each with the trace and request it belongs to."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import orjson
import structlog
from opentelemetry import trace

from services.common import context
from services.common.errors import ConfigurationError, ShopError

_MAX_FILE_BYTES = 32 * 1024 * 1024
_IS_LINE = "is_line"  # an attribute of records

Logger = structlog.stdlib.BoundLogger


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

    def add_identity(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {**event, **identity}

    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_request,
        add_identity,
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, _as_line],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    formatter = _Formatter(
        foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(serializer=_to_json),
        ],
    )
    handler = _open_file(file) if file else logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for chatty in ("uvicorn.access", "asyncio", "aiosqlite", "stripe"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def get_logger(name: str) -> Logger:
    """A logger; `log.info("order.confirmed", order_id=…)`: an event name, then facts."""
    return structlog.stdlib.get_logger(name)


def log_cause(log: Logger, error: ShopError) -> None:
    """Logs what is behind an error whose text, for the outside, does not tell."""
    if error.__cause__ is not None and not isinstance(error.__cause__, ShopError):
        log.warning("request.failed", code=error.code, cause=repr(error.__cause__))


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Formats what the libraries log. The shop's own records are lines already."""

    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage() if hasattr(record, _IS_LINE) else super().format(record)


def _as_line(_: Any, __: str, event: MutableMapping[str, Any]) -> tuple[tuple[str], dict[str, Any]]:
    """What structlog calls the logger with: the finished line, and the mark that it is one."""
    return (_to_json(event),), {"extra": {_IS_LINE: True}}


def _open_file(file: Path) -> logging.Handler:
    try:
        return RotatingFileHandler(file, maxBytes=_MAX_FILE_BYTES, backupCount=1)
    except OSError as error:
        raise ConfigurationError(
            f"The setting LOG_FILE is wrong: {file} cannot be opened ({error.strerror})."
        ) from error


def _add_request(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    span_context = trace.get_current_span().get_span_context()
    if span_context.is_valid:
        event["trace_id"] = trace.format_trace_id(span_context.trace_id)
        event["span_id"] = trace.format_span_id(span_context.span_id)
    request_id = context.current_request_id()
    if request_id is not None:
        event["request_id"] = request_id
    return event


def _to_json(event: Any, **_: Any) -> str:
    return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
