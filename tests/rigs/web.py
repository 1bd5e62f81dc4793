"""Web servers that have no video."""

from __future__ import annotations

import http.server
import threading
from contextlib import contextmanager


@contextmanager
def answering(status: int):
    """A server that gives each request the same status; gives its URL and the requests."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            content = b"<html>" if status == 200 else b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_) -> None:
            pass

    requests: list[str] = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_address[1]}", requests
        web.shutdown()
