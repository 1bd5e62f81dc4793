"""Certificates as cameras have them, made by the openssl program, and servers that use them."""

from __future__ import annotations

import http.server
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from rigs.need import need_program


class Certificates:
    """An issuer in ``ca.pem``, and `make` for what it signs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._openssl = folder, need_program("openssl", "openssl")
        self.ca = self.folder / "ca.pem"
        self._run(*self._new("ca", "a test CA"), "-x509", "-days", 9, "-out", self.ca)

    def _run(self, *words: object) -> None:
        command = [self._openssl, *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder)
        assert done.returncode == 0, done.stderr

    def _new(self, name: str, subject: str) -> list[object]:
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
        return ["req", *curve, "-nodes", "-keyout", f"{name}.key", "-subj", f"/CN={subject}"]

    def make(self, name: str, names: str, *, own: bool = False, days: int = 9) -> Path:
        """A certificate for ``names`` such as ``IP:127.0.0.1``; ``own``: signed by itself."""
        made = self.folder / f"{name}.pem"
        if own:
            more = ["-addext", f"subjectAltName={names}"] if names else []
            self._run(*self._new(name, name), "-x509", "-days", days, *more, "-out", made)
            return made
        (self.folder / "names").write_text(f"subjectAltName={names}\n")
        self._run(*self._new(name, name), "-out", f"{name}.csr")
        sign = ["x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key"]
        self._run(*sign, "-CAcreateserial", "-days", days, "-extfile", "names", "-out", made)
        return made

    @staticmethod
    def context(certificate: Path) -> ssl.SSLContext:
        """A server's side of TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        return context


@contextmanager
def web(answer: Callable, certificate: Path | None = None) -> Iterator[tuple[str, list]]:
    """A web server; ``answer`` is a handler's ``do_GET``. Gives host and port, and the requests."""
    requests: list[tuple[str, str | None]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            requests.append((self.path, self.headers.get("Authorization")))
            with suppress(ConnectionError):
                answer(self)

        def log_message(self, *_) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def finish_request(self, request, address) -> None:
            with suppress(OSError):
                if certificate is not None:
                    context = Certificates.context(certificate)
                    request = context.wrap_socket(request, server_side=True)
                super().finish_request(request, address)
                request.close()

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}", requests
        server.shutdown()


@contextmanager
def rtsp(answer: Callable, certificate: Path | None = None) -> Iterator[tuple[str, list]]:
    """A server that answers DESCRIBE with ``answer(headers)``, an RTSP status and headers.

    Gives host and port, and the requests: first line and Authorization.
    """
    requests: list[tuple[str, str | None]] = []

    def talk(peer: socket.socket) -> None:
        with suppress(OSError), peer:
            if certificate is not None:
                peer = Certificates.context(certificate).wrap_socket(peer, server_side=True)
            read = peer.makefile("rb")
            while first := read.readline().decode().strip():
                pairs = iter(lambda: read.readline().decode().strip(), "")
                headers = dict(line.split(": ", 1) for line in pairs)
                requests.append((first, headers.get("Authorization")))
                said = "200 OK" if first.startswith("OPTIONS") else answer(headers)
                peer.sendall(f"RTSP/1.0 {said}\r\nCSeq: {headers['CSeq']}\r\n\r\n".encode())

    with _serving(talk) as port:
        yield f"127.0.0.1:{port}", requests


def in_front(port: int, certificate: Path) -> AbstractContextManager[int]:
    """TLS in front of a server on this machine; gives its port."""

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def join(peer: socket.socket) -> None:
        with suppress(OSError):
            peer = Certificates.context(certificate).wrap_socket(peer, server_side=True)
            behind = socket.create_connection(("127.0.0.1", port))
            threading.Thread(target=pump, args=(behind, peer), daemon=True).start()
            pump(peer, behind)

    return _serving(join)


@contextmanager
def _serving(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server with a thread for each connection; gives its port."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                peer, _ = server.accept()
                threading.Thread(target=talk, args=(peer,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
