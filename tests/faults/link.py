"""A network link that a test may cut: a TCP proxy on loopback in front of one server.

open        bytes pass
cut         every connection is reset, new ones are refused
silent      nothing passes and nobody is told; what was sent meanwhile arrives when it opens again
half_open   as silent, but what was connected then is reset when it opens: the other side has forgotten it
slow        each piece takes a while, in both directions
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import struct
import threading
import time
from collections.abc import Callable

STATES = ("open", "cut", "silent", "half_open", "slow")


class Link:
    """One way in; `connect` opens a socket to the server behind it."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self.state = "open"
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._door = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._door.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def become(self, state: str) -> None:
        """Change its state at once."""
        assert state in STATES
        before, self.state = self.state, state
        if state == "cut" or before == "half_open":
            with self._lock:
                pairs = list(self._pairs)
            for pair in pairs:
                self._reset(pair)

    def close(self) -> None:
        self.become("cut")
        self._door.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._wait_until_it_speaks()
        try:
            if self.state == "cut":
                raise ConnectionError
            server = self._connect()
        except OSError:
            _close(client)
            return
        pair = (client, server)
        with self._lock:
            self._pairs.add(pair)
        try:
            for each in pair:
                each.setblocking(True)
            while self._pass(pair):
                pass
        except (OSError, ValueError):  # it was closed under our hands
            pass
        finally:
            self._reset(pair)

    def _pass(self, pair: tuple[socket.socket, socket.socket]) -> bool:
        """Hand on what there is; False at an end."""
        ready, _, _ = select.select(pair, [], [], 0.5)
        for source in ready:
            self._wait_until_it_speaks()
            data = source.recv(1 << 16)
            if not data:
                return False
            if self.state == "slow":
                time.sleep(random.uniform(0.02, 0.15))
            self._wait_until_it_speaks()
            (pair[1] if source is pair[0] else pair[0]).sendall(data)
        return True

    def _wait_until_it_speaks(self) -> None:
        while self.state in {"silent", "half_open"}:
            time.sleep(0.02)

    def _reset(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._lock:
            self._pairs.discard(pair)
        for each in pair:
            _close(each)


def _close(end: socket.socket) -> None:
    """With a reset, as a firewall sends; a thread that waits in it is woken."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.shutdown(socket.SHUT_RDWR)
    end.close()
