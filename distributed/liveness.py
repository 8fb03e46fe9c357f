"""Who of a program's processes is alive: a TCP connection of each to rank 0, which tells the others what it sees.

MPI itself does not say that a process died; a wait for it never ends. Here the kernel closes the connection of a
process that ends in whatever way, and within milliseconds all know. Where a whole machine vanishes, TCP's own probes
find out in about 8 s. A process that ends in good order says so first.

Lines of JSON go both ways: {"rank": 1, "failed": "why"} or {"rank": 1, "left": true}.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import selectors
import socket
import threading
import time
from typing import Any

from .types import DistBackendError

CONNECT = 30.0  # seconds for a connection to rank 0
PROBES = {"TCP_KEEPIDLE": 3, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 5}  # seconds of silence, between probes; how many
SILENT = "its process ended without a word (killed, or out of memory)"


def probed(connection: socket.socket) -> socket.socket:
    """A connection that breaks within 8 s of its other end's machine vanishing."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in PROBES.items():
        if hasattr(socket, name):  # macOS and Windows have some of them
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return connection


class Liveness:
    """What is known of the other processes.

    Args:
        rank, size: this process's number, and how many there are.
        address: where rank 0 listens, and the token that it asks for, as `hub` gives them.
        listener: rank 0's listening socket; None in the others.

    Attributes:
        failed: the processes that died or raised, and why, the first one first.
        left: those that ended in good order, and when (time.monotonic()).
    """

    def __init__(self, rank: int, size: int, address: tuple[str, int, str], listener: socket.socket | None = None):
        self.rank, self.size = rank, size
        self.failed: dict[int, str] = {}
        self.left: dict[int, float] = {}
        self.lock = threading.RLock()
        self.peers: dict[int, socket.socket] = {}
        self.parts: dict[int, bytes] = {}  # of lines that did not come whole yet
        self.closed = self.deaf = False  # deaf: rank 0 is gone, and with it all news
        host, port, token = address
        if listener is not None:
            self._accept(listener, token)
        else:
            self.peers[0] = probed(socket.create_connection((host, port), CONNECT))
            self.peers[0].sendall(f"{token} {rank}\n".encode())
        for peer in self.peers.values():
            peer.settimeout(CONNECT)
        if hasattr(os, "register_at_fork"):  # a child that lives on must not hold a dead parent's connection open
            os.register_at_fork(after_in_child=self._forget)
        self.thread = threading.Thread(target=self._listen, name="tapegrad-liveness", daemon=True)
        self.thread.start()

    def _accept(self, listener: socket.socket, token: str) -> None:
        """Takes the connections of all others; who does not know the token is not one of them."""
        end = time.monotonic() + CONNECT
        while len(self.peers) < self.size - 1:
            listener.settimeout(max(0.01, end - time.monotonic()))
            try:
                connection, _ = listener.accept()
                connection.settimeout(5.0)
                with connection.makefile("rb") as file:
                    words = file.readline(200).decode("ascii", "replace").split()
            except TimeoutError:
                if time.monotonic() < end:
                    continue
                missing = sorted(set(range(1, self.size)) - set(self.peers))
                raise DistBackendError(
                    f"init_process_group: rank {', '.join(map(str, missing))} did not connect to rank 0 within "
                    f"{CONNECT:.0f} s; is {listener.getsockname()} reachable from there?"
                ) from None
            if len(words) == 2 and hmac.compare_digest(words[0], token) and words[1].isdigit():
                self.peers[int(words[1])] = probed(connection)
            else:
                connection.close()
        listener.close()

    def _forget(self) -> None:
        for peer in self.peers.values():
            peer.close()
        self.closed = True

    # ---- what others say

    def _listen(self) -> None:
        selector = selectors.DefaultSelector()
        for rank, peer in self.peers.items():
            selector.register(peer, selectors.EVENT_READ, rank)
        while selector.get_map() and not self.closed:
            for key, _ in selector.select(1.0):
                try:
                    data = self.peers[key.data].recv(4096)
                except OSError:
                    data = b""
                if data:
                    self._take(key.data, data)
                    continue
                selector.unregister(key.fileobj)
                self.deaf = self.rank != 0
                if key.data not in self.left and not self.closed:
                    self._note({"rank": key.data, "failed": SILENT})

    def _take(self, peer: int, data: bytes) -> None:
        *lines, rest = (self.parts.get(peer, b"") + data).split(b"\n")
        self.parts[peer] = rest
        for line in lines:
            self._note(json.loads(line))

    def _note(self, news: dict[str, Any]) -> None:
        """Keeps it; rank 0 tells the others."""
        with self.lock:
            rank = news["rank"]
            if rank in self.failed or (rank in self.left and "left" in news):
                return
            if "failed" in news:
                self.failed[rank] = news["failed"]
            else:
                self.left[rank] = time.monotonic()
            if self.rank == 0:
                self._send(news)

    def _send(self, news: dict[str, Any]) -> None:
        line = json.dumps(news).encode() + b"\n"
        for rank, peer in self.peers.items():
            if rank != news["rank"]:
                try:
                    peer.sendall(line)
                except OSError:
                    continue  # it is gone itself, which the listening thread notes

    # ---- what this process says

    def fail(self, why: str) -> None:
        """Tells all that this process fails."""
        self._say({"rank": self.rank, "failed": why[:1500]})

    def leave(self) -> None:
        """Tells all that this process has done its work."""
        self._say({"rank": self.rank, "left": True})

    def _say(self, news: dict[str, Any]) -> None:
        with self.lock:
            if self.rank not in self.failed:
                self._note(news)
                if self.rank != 0:
                    self._send(news)

    def all_ended(self) -> bool:
        """Whether every process failed or has done its work, as far as this one can still learn."""
        with self.lock:
            return self.deaf or len(self.failed.keys() | self.left.keys()) >= self.size

    def settle(self, seconds: float) -> None:
        """Waits until every process is known to have ended, so that all news was read.

        A connection closed over unread news is reset, and its other end loses what it had not read either.
        """
        end = time.monotonic() + seconds
        while not self.all_ended() and time.monotonic() < end:
            time.sleep(0.002)

    def close(self) -> None:
        """Ends the connections. Rank 0 comes last, or the others lose sight of each other."""
        self.closed = True
        for peer in self.peers.values():
            peer.close()


def hub(same_machine: bool) -> tuple[tuple[str, int, str], socket.socket]:
    """(address with the token that members show, listening socket) of rank 0."""
    listener = socket.create_server(("127.0.0.1" if same_machine else "", 0), backlog=1024)
    host = "127.0.0.1" if same_machine else os.environ.get("MASTER_ADDR") or socket.gethostname()
    return (host, listener.getsockname()[1], secrets.token_hex(16)), listener
