"""A web server on the loopback address that stands in for a mirror: it can cut off, alter, delay and refuse."""

import http.server
import re
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Web(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Serves ``files`` by path.

    Attributes:
        files: content by path, as "/a.bin".
        cuts: after how many bytes of an answer the next connections are closed; one is used up by each GET.
        ranges: whether it knows Range.
        redirects: where a path leads instead.
        statuses: answers of the next GETs instead of a file, such as 503.
        delay: seconds of silence before each byte, from the first on.
        asked: the path and the Range header of each GET.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cuts: list[int] = []
        self.statuses: list[int] = []
        self.redirects: dict[str, str] = {}
        self.ranges, self.delay = True, 0.0
        self.asked: list[tuple[str, str | None]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address) -> None:
        """Clients that go away are part of the tests."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Web
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(200, b"")

    def do_GET(self) -> None:
        web, begin = self.server, 0
        web.asked.append((self.path, self.headers["Range"]))
        if web.statuses:
            return self.answer(web.statuses.pop(0), b"")
        if self.path in web.redirects:
            return self.answer(302, b"", {"Location": web.redirects[self.path]})
        if (content := web.files.get(self.path)) is None:
            return self.answer(404, b"")
        if web.ranges and (found := re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")):
            if (begin := int(found[1])) >= len(content):
                return self.answer(416, b"")
            headers = {"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"}
            return self.answer(206, content[begin:], headers)
        return self.answer(200, content)

    def answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.server.delay:
            for byte in content:
                time.sleep(self.server.delay)
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
            return
        cut = self.server.cuts.pop(0) if content and self.server.cuts else len(content)
        self.wfile.write(content[:cut])
        self.close_connection = cut < len(content)

    def log_message(self, *_) -> None:
        pass


@contextmanager
def serving(kind: type[Web] = Web) -> Iterator[Any]:
    web = kind()
    threading.Thread(target=web.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield web
    finally:
        web.shutdown()
        web.server_close()
