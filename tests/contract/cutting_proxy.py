"""A TCP proxy that forwards to a server and loses answers when it is told to."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from typing import Literal

Loss = Literal["cut", "silent"]


class CuttingProxy:
    """``lose(n)`` makes ``n`` scripts run without an answer: the connection is cut, or stays silent."""

    def __init__(self, port: int) -> None:
        self._upstream = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._pass, self._left, self._how = 0, 0, "cut"
        self.lost = 0
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def lose(self, answers: int, how: Loss = "cut", *, after: int = 0) -> None:
        """Lose the next answers; those of the first ``after`` scripts still come through."""
        self._pass, self._left, self._how = after, answers, how

    def _is_lost(self) -> bool:
        if self._pass:
            self._pass -= 1
            return False
        self._left -= 1
        return self._left >= 0

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10.0)
            assert not thread.is_alive()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(client,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._upstream) as server, contextlib.suppress(ConnectionError):
            while True:
                readable, _, _ = select.select([client, server], [], [])
                for side in readable:
                    data = side.recv(1 << 16)
                    if not data:
                        return
                    (server if side is client else client).sendall(data)
                    if side is client and b"EVALSHA" in data and self._is_lost():
                        server.recv(1 << 16)  # the script has run
                        self.lost += 1
                        if self._how == "silent":
                            client.recv(1)  # until the client gives up
                        return


@contextlib.contextmanager
def cutting_proxy(port: int) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
