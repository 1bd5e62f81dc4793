"""A TCP proxy that does what networks do: cut, freeze without a word, spoil, refuse, come back."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import socketserver
import threading
import time
from collections.abc import Iterator

CHUNK = 1 << 16


class Proxy:
    """Forwards 127.0.0.1:`port` to ``target``; every method may be called from any thread."""

    def __init__(self, target: int, *, port: int = 0) -> None:
        self._target, self.port = target, port
        self._share = 0.0
        self._frozen = threading.Event()  # of the connections that are there now
        self._random = random.Random(0)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.accepted = 0
        self.forwarded = 0
        """Bytes that went through, both ways."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._do(self._listen())

    def cut(self) -> None:
        """Reset all connections and refuse new ones."""
        self._do(self._refuse(reset=True))

    def refuse(self) -> None:
        """Refuse new connections; those that are there go on."""
        self._do(self._refuse(reset=False))

    def drop(self) -> None:
        """Reset all connections; new ones are welcome."""
        self._do(self._reset())

    def freeze(self) -> None:
        """Forward nothing any more, and say nothing: connections stay, new ones are accepted."""
        self._frozen.set()

    def corrupt(self, share: float) -> None:
        """Spoil this share of the chunks that come from the target, a byte of each."""
        self._share = share

    def restore(self, *, silent: bool = False) -> None:
        """Be a good network again; connections frozen before are reset, as after a reboot.

        With ``silent`` nobody tells those who hold them: they stay frozen, and new ones work.
        """
        self._share = 0.0
        self._do(self._restore(silent))

    def close(self) -> None:
        """End it."""
        self._do(self._refuse(reset=True))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._meet, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self, *, reset: bool) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        if reset:
            await self._reset()

    async def _reset(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _restore(self, silent: bool) -> None:
        if self._frozen.is_set():
            frozen, self._frozen = self._frozen, threading.Event()
            if not silent:
                frozen.clear()
                await self._reset()
        if self._server is None:
            await self._listen()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(asyncio.CancelledError):
            await self._forward(reader, writer)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(far_writer)
        try:
            ways = {
                asyncio.ensure_future(self._pump(reader, far_writer, spoil=False)),
                asyncio.ensure_future(self._pump(far_reader, writer, spoil=True)),
            }
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            for one in (writer, far_writer):
                one.transport.abort()
                self._writers.discard(one)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, spoil: bool
    ) -> None:
        frozen = self._frozen
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                while frozen.is_set():
                    await asyncio.sleep(0.02)
                if spoil and self._random.random() < self._share:
                    spoilt = bytearray(data)
                    place = self._random.randrange(len(spoilt))
                    spoilt[place] ^= 0xFF
                    data = bytes(spoilt)
                self.forwarded += len(data)
                writer.write(data)
                await writer.drain()


@contextlib.contextmanager
def hesitating(port: int, seconds: float) -> Iterator[int]:
    """A way to a camera on which the first answer of each connection takes so long."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", port)) as camera,
            ):
                asking = threading.Thread(target=self.relay, args=[self.request, camera])
                asking.start()
                answer = camera.recv(65536)
                time.sleep(seconds)
                self.request.sendall(answer)
                self.relay(camera, self.request)
                asking.join()

        @staticmethod
        def relay(source: socket.socket, sink: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while data := source.recv(65536):
                    sink.sendall(data)
                sink.shutdown(socket.SHUT_WR)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()
