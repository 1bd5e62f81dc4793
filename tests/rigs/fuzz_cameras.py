"""Cameras that answer anything: a sound answer over RTSP or HTTP, damaged."""

from __future__ import annotations

import random
import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import av

from rigs.fuzz import damage_bytes

SILENT_S = 0.5
NAL_BYTES = 60_000
SIZE, FRAMES = (64, 48), 4
ELSEWHERE = (
    "file:///etc/passwd", "/etc/passwd", "concat:/etc/passwd", "http://127.0.0.1:9/",
    "ftp://127.0.0.1:9/x", "tcp://127.0.0.1:9", "udp://127.0.0.1:9", "rtp://127.0.0.1:9",
    "rtsp://127.0.0.1:9/x",    "gopher://127.0.0.1:9",
    "data:text/plain,x", "subfile,,start,0,end,9,,:/etc/passwd", "crypto:/etc/passwd",
    "unix:/run/x",
    "//127.0.0.2/", "http://user:pass@127.0.0.1:9/",
)  # fmt: skip
REDIRECTED = 80
"""The port to which a redirect of the URL leads: it is followed, without a password."""
WORDS = (b"\r\n", b"\r\n\r\n", b"\n\n", b": ", b"9" * 30, b"-1", b"\xff" * 9, b"A" * 9000, b"$\0")


class Server(threading.Thread):
    """Gives each connection the replies of `script`, one for each request."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self.script: list[bytes] = []
        self.start()

    def run(self) -> None:
        while True:
            peer, _ = self._listening.accept()
            threading.Thread(target=self._serve, args=(peer, [*self.script]), daemon=True).start()

    @staticmethod
    def _serve(peer: socket.socket, script: list[bytes]) -> None:
        with peer, suppress(OSError):
            peer.settimeout(SILENT_S)
            for reply in script:
                request = b""
                while b"\r\n\r\n" not in request:
                    read = peer.recv(4096)
                    if not read:
                        return
                    request += read
                peer.sendall(reply)
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(4096):
                pass


def video(folder: Path, kind: str, codec: str, **options: str) -> bytes:
    """A few frames in a container of FFmpeg."""
    path = folder / f"camera.{kind}"
    with av.open(str(path), "w", format=kind, options=options) as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for _ in range(FRAMES):
            frame = av.VideoFrame(*SIZE, stream.pix_fmt)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path.read_bytes()


def http_replies(folder: Path) -> list[bytes]:
    """Sound replies of every kind that a camera gives."""
    mp4 = video(folder, "mp4", "mpeg4")
    bodies = [
        (b"video/mp4", mp4),
        (b"video/mp2t", video(folder, "mpegts", "mpeg2video")),
        (b"video/x-flv", video(folder, "flv", "flv1")),
        (b"video/x-matroska", video(folder, "matroska", "mjpeg")),
        (b"multipart/x-mixed-replace; boundary=ffmpeg", video(folder, "mpjpeg", "mjpeg")),
        (b"image/jpeg", video(folder, "image2pipe", "mjpeg")),
        (
            b"application/vnd.apple.mpegurl",
            b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n"
            b"#EXT-X-ENDLIST\n",
        ),
        (b"application/sdp", SDP.encode()),
        (b"text/html", b"<html>"),
    ]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
    moved = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:80/x\r\nContent-Length: 0\r\n\r\n"
    asks = b'HTTP/1.1 401 No\r\nWWW-Authenticate: Digest realm="a", nonce="b"\r\n'
    asks += b"Content-Length: 0\r\n\r\n"
    return [moved, asks, *(head % (kind, len(body)) + body for kind, body in bodies)]


SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 MP4V-ES/90000\r\n"
    "a=fmtp:96 profile-level-id=1; config={config}\r\na=control:track1\r\n"
)


def rtsp_replies(folder: Path) -> list[bytes]:
    """The replies of one sound session, the last followed by its packets."""
    with av.open(str(folder / "camera.mp4")) as container:
        stream = container.streams.video[0]
        config = (stream.codec_context.extradata or b"").hex()
        packets = [bytes(packet) for packet in container.demux(stream) if packet.size]
    sdp = SDP.format(config=config).encode()
    head = "RTSP/1.0 200 OK\r\nCSeq: {0}\r\n{1}\r\n"
    transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 7\r\n"
    describe = f"Content-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n"
    replies = [
        head.format(1, "Public: OPTIONS, DESCRIBE, SETUP, PLAY\r\n").encode(),
        head.format(2, describe).encode() + sdp,
        head.format(3, transport).encode(),
        head.format(4, "Session: 7\r\n").encode(),
    ]
    for number, packet in enumerate(packets):
        rtp = struct.pack(">BBHII", 0x80, 0x80 | 96, number, 9000 * number, 1) + packet
        replies[-1] += struct.pack(">cBH", b"$", 0, len(rtp)) + rtp
    return replies


def damaged(chance: random.Random, replies: list[bytes]) -> list[bytes]:
    """One or two replies changed: bytes, words of the protocol, and addresses of elsewhere."""
    script = [*replies]
    for _ in range(chance.choice((1, 1, 2))):
        at = chance.randrange(len(script))
        script[at] = chance.choice((damage_bytes, _word, _elsewhere))(chance, script[at])
    return script


def _word(chance: random.Random, reply: bytes) -> bytes:
    """A word of the protocol somewhere in the head."""
    at = chance.randrange(min(len(reply), 400) + 1)
    return reply[:at] + chance.choice(WORDS) + reply[at:]


def _elsewhere(chance: random.Random, reply: bytes) -> bytes:
    """Send the client somewhere else, in the head or in the body."""
    address = chance.choice(ELSEWHERE).encode()
    head, mark, body = reply.partition(b"\r\n\r\n")
    for text in (b"http://127.0.0.1:9/a.ts", b"track1", b"127.0.0.1"):
        if text in body and chance.random() < 0.7:
            return head + mark + body.replace(text, address)
    version = head.partition(b" ")[0]
    address = address.replace(b":9", b":%d" % REDIRECTED)
    line = chance.choice((b"Location", b"Content-Base", b"Content-Location", b"Content-Type"))
    if chance.random() < 0.5:
        head = version + b" 302 Moved"
    return head + b"\r\n" + line + b": " + address + mark + body
