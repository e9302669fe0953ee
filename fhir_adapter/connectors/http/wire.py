"""What arrives from a server, watched before anyone makes sense of it.

The HTTP library reads interim answers (RFC 9110, 15.2), header lines, sizes of chunks, trailers and packed data that
unpack to nothing for as long as they come, and its time-out begins anew with every byte. A server that sends only
such things would hold a run for ever. So each byte passes a `Watch`, which ends what brings nothing.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from requests.adapters import HTTPAdapter
from urllib3 import PoolManager, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from fhir_adapter.errors import SourceNotFhir, SourceUnreachable

__all__ = ["TimedOut", "Watch", "WatchedAdapter", "watched"]

# Bytes of a head, or without a part of a body; the longest head and packed data need less.
_IDLE_BYTES = 1024 * 1024


class TimedOut(SourceUnreachable):
    """The server did not answer in time; a smaller page may come."""


class Watch:
    """Ends an answer of which bytes arrive and nothing comes. For one request, repeated or not.

    Args:
        seconds: longest time that a head, or a part of a body, may take.
        where: of the request, for messages.
        in_time: called with every arrival; raises where the pull as a whole has to end.
    """

    def __init__(self, seconds: float, where: str, in_time: Callable[[], None]) -> None:
        self._seconds = seconds
        self._where = where
        self._in_time = in_time
        self.begin()

    def begin(self) -> None:
        """A head, or a part of a body, is waited for: time and bytes count from here."""
        self._latest = time.monotonic() + self._seconds
        self._bytes = 0

    def arrived(self, number: int) -> None:
        """Counts bytes off the wire.

        Raises:
            TimedOut: they bring nothing for too long.
            SourceNotFhir: they are too many for what they bring.
            SourceIncomplete: what `in_time` raises.
        """
        self._bytes += number
        self._in_time()
        if self._bytes > _IDLE_BYTES:
            raise SourceNotFhir(
                "the server sends on and on, and nothing of it is an answer", where=self._where
            )
        if time.monotonic() > self._latest:
            raise TimedOut("the answer takes too long", where=self._where)


_Manager = TypeVar("_Manager", bound=PoolManager)
_WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Has the answers to what is asked here, in this thread, pass a watch, to the end of their bodies."""
    before = _WATCH.set(watch)
    try:
        yield
    finally:
        _WATCH.reset(before)


class _Arriving(io.RawIOBase):
    """The bytes of a socket, each of which passes the watch."""

    def __init__(self, raw: socket.SocketIO, watch: Watch) -> None:
        self._raw = raw
        self._watch = watch

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        number = self._raw.readinto(buffer)
        self._watch.arrived(number or 0)
        return number

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer whose bytes pass the watch of its request."""

    def __init__(self, sock: socket.socket, *arguments: Any, **settings: Any) -> None:
        super().__init__(sock, *arguments, **settings)
        watch = _WATCH.get()
        if watch is not None:
            watch.begin()
            self.fp.close()
            self.fp = io.BufferedReader(_Arriving(sock.makefile("rb", buffering=0), watch))


class _HTTPConnection(HTTPConnection):
    response_class = _Response


class _HTTPSConnection(HTTPSConnection):
    response_class = _Response


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class WatchedAdapter(HTTPAdapter):
    """The adapter of a session whose answers can be watched, through a proxy or not."""

    def init_poolmanager(self, *arguments: Any, **settings: Any) -> None:
        """Makes the pools of connections."""
        super().init_poolmanager(*arguments, **settings)
        _watching(self.poolmanager)

    def proxy_manager_for(self, *arguments: Any, **settings: Any) -> ProxyManager:
        """The pools of connections through a proxy."""
        manager: ProxyManager = super().proxy_manager_for(*arguments, **settings)
        return _watching(manager)


def _watching(manager: _Manager) -> _Manager:
    manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
    return manager
