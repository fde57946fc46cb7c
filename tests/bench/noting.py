"""The shop, with a note of each message between its processes and of each write to its stores.

``python -m tests.bench.noting FILE …`` is otherwise ``python -m services …``. The notes come from
the libraries that send and store (aiohttp, gRPC, SQLite), so they are complete however the shop
uses these. Notes cost time: a shop that notes is not measured.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal
from unittest.mock import patch

import aiohttp
import grpc.aio
from pydantic import BaseModel, ConfigDict, TypeAdapter

from services.__main__ import main


class Note(BaseModel):
    """A message that a process sent or received, or a write.

    :ivar target: of HTTP the method and the URL, of gRPC the full name of the method, of a write
        the statement's first word.
    :ivar size_bytes: of the HTTP body, the gRPC message or the SQL statement with its values.
    """

    model_config = ConfigDict(frozen=True)

    pid: int
    kind: Literal["request", "answer", "write"]
    target: str
    size_bytes: int


_NOTES = TypeAdapter(list[Note])
_WRITES = ("INSERT", "UPDATE", "DELETE")


def read_notes(file: Path) -> list[Note]:
    """Returns all notes so far."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return _NOTES.validate_json("[" + ",".join(lines) + "]")


class Notebook:
    """Appends notes to a file that several processes write.

    A note is one short `write` to a file opened for appending, so notes do not mix.
    """

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    def add(self, kind: Literal["request", "answer", "write"], target: str, size: int) -> None:
        """Adds a note.

        :param size: in bytes.
        """
        note = Note(pid=os.getpid(), kind=kind, target=target, size_bytes=size)
        os.write(self._descriptor, note.model_dump_json().encode() + b"\n")


def note_http(notebook: Notebook) -> None:
    """Notes what all sessions of aiohttp send and receive."""

    async def sent(
        _: Any, request: SimpleNamespace, part: aiohttp.TraceRequestChunkSentParams
    ) -> None:
        request.sent_bytes = getattr(request, "sent_bytes", 0) + len(part.chunk)

    async def answered(
        _: Any, request: SimpleNamespace, end: aiohttp.TraceRequestEndParams
    ) -> None:
        target = f"{end.method} {end.url}"
        notebook.add("request", target, getattr(request, "sent_bytes", 0))
        notebook.add("answer", target, end.response.content_length or 0)

    create = aiohttp.ClientSession.__init__

    def create_noting(session: aiohttp.ClientSession, *arguments: Any, **options: Any) -> None:
        traces = aiohttp.TraceConfig()
        traces.on_request_chunk_sent.append(sent)
        traces.on_request_end.append(answered)
        options["trace_configs"] = [*(options.get("trace_configs") or ()), traces]
        create(session, *arguments, **options)

    patch.object(aiohttp.ClientSession, "__init__", create_noting).start()


def note_grpc(notebook: Notebook) -> None:
    """Notes what all channels of gRPC send and receive."""
    open_channel = grpc.aio.insecure_channel

    def open_noting(*arguments: Any, **options: Any) -> grpc.aio.Channel:
        channel = open_channel(*arguments, **options)
        bind = channel.unary_unary

        def bind_noting(
            method: str,
            request_serializer: Callable[[Any], bytes],
            response_deserializer: Callable[[bytes], Any],
            **more: Any,
        ) -> Any:
            def serialize(message: Any) -> bytes:
                data = request_serializer(message)
                notebook.add("request", method, len(data))
                return data

            def parse(data: bytes) -> Any:
                notebook.add("answer", method, len(data))
                return response_deserializer(data)

            return bind(method, request_serializer=serialize, response_deserializer=parse, **more)

        patch.object(channel, "unary_unary", bind_noting).start()
        return channel

    patch.object(grpc.aio, "insecure_channel", open_noting).start()


def note_writes(notebook: Notebook) -> None:
    """Notes all statements that change an SQLite database."""
    connect = sqlite3.connect

    def note(statement: str) -> None:
        word = statement.lstrip()[:6].upper()
        if word in _WRITES:
            notebook.add("write", word, len(statement))

    def connect_noting(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.set_trace_callback(note)
        return connection

    patch.object(sqlite3, "connect", connect_noting).start()


def _note_everything(file: Path) -> None:
    notebook = Notebook(file)
    note_http(notebook)
    note_grpc(notebook)
    note_writes(notebook)


if __name__ == "__main__":
    _note_everything(Path(sys.argv.pop(1)))
    sys.exit(main())
