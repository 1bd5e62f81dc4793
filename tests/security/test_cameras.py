"""What a hostile camera can learn, or make the runner do."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path

import av
import pytest

from edgevid.media.hls import parse
from edgevid.media.logins import moved
from edgevid.media.network import NetworkEndpoint
from edgevid.media.sources import SourceOptions, open_source
from edgevid.media.unavailable import Unavailable
from rigs.rtsp import RtspCamera
from rigs.tls import Certificates, in_front, rtsp, web
from rigs.videos import write_camera_video

# ---------------------------------------------------------------- certificates

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    made = Certificates(tmp_path_factory.mktemp("certificates"))
    made.make("right", f"IP:{HOST}")
    made.make("elsewhere", "DNS:camera.example")
    made.make("old", f"IP:{HOST}", days=-1)
    made.make("own", "DNS:IPC", own=True)
    return made


def why_not(url: str, **options) -> str:
    """Why a camera is refused; empty if it opens."""
    endpoint = NetworkEndpoint(url, SourceOptions(**options))
    try:
        opened = endpoint.open(60.0, 60.0)  # a machine may be busy
    except Unavailable as error:
        return f"{error.reason}: {error.detail}"
    except av.FFmpegError as error:
        return f"FFmpeg: {error.errno}"
    opened.container.close()
    return ""


@pytest.fixture
def film(video):
    content = video.read_bytes()
    return sending(lambda path: content)


def sending(content_of):
    """An answer of ``content_of(path)``, bytes."""

    def answer(handler):
        content = content_of(handler.path)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


@pytest.mark.parametrize("scheme", ["https", "rtsps"])
@pytest.mark.parametrize(
    ("certificate", "trusted", "why"),
    [
        ("right", "ca.pem", ""),
        ("right", None, "the issuer of its certificate is not trusted"),
        ("elsewhere", "ca.pem", "its certificate is for another host"),
        ("old", "ca.pem", "its certificate has expired"),
        ("own", None, "its certificate is self-signed"),
        ("own", "own.pem", ""),
        ("own", "right.pem", "its certificate is self-signed"),
        ("elsewhere", "elsewhere.pem", ""),
        ("right", "gone.pem", "cannot be read"),
    ],
)
def test_a_cameras_certificate_is_checked(scheme, certificate, trusted, why, certificates, film):
    """By the probe, which gives the reason, and by FFmpeg on its own connection."""
    folder = certificates.folder
    options = {"tls_ca": folder / trusted} if trusted else {}
    serve = web(film, folder / f"{certificate}.pem")
    if scheme == "rtsps":
        serve = rtsp(lambda _: "404 Not Found", folder / f"{certificate}.pem")
    with serve as (host, requests):
        said = why_not(f"{scheme}://viewer:geheim@{host}/v.mp4", **options)
        if why:
            assert said.startswith("certificate: ") and why in said
            assert not requests, "it was asked before it was trusted"
        else:
            assert requests and ("" if scheme == "https" else "FFmpeg") in said[:6]
            assert scheme == "rtsps" or said == ""


@pytest.mark.parametrize("scheme", ["https", "rtsps"])
def test_ffmpeg_checks_the_certificate_itself(scheme, certificates, film):
    """So a server that answers differently after the probe gains nothing."""
    folder, options = certificates.folder, SourceOptions(tls_ca=certificates.ca)
    serve, answer = (web, film) if scheme == "https" else (rtsp, lambda _: "404 Not Found")
    with serve(answer, folder / "right.pem") as (host, _):
        url = f"{scheme}://{host}/v.mp4"
        _, checks = NetworkEndpoint(url, options)._probe(url, 3.0)
    for name, fine in (("right", True), ("elsewhere", False), ("own", False)):
        with serve(answer, folder / f"{name}.pem") as (host, requests):
            endpoint = NetworkEndpoint(f"{scheme}://{host}/v.mp4", options)
            with contextlib.suppress(av.FFmpegError):
                endpoint._request(f"{scheme}://{host}/v.mp4", checks, (3.0, 3.0)).close()
            assert bool(requests) is fine


def test_an_opt_out_opens_anything_and_says_so(certificates, film):
    with web(film, certificates.folder / "own.pem") as (host, _):
        url = f"https://{host}/v.mp4"
        options = SourceOptions(tls_insecure=True)
        opened = NetworkEndpoint(url, options).open(5.0, 5.0)
        assert "its certificate is not checked" in opened.note
        opened.container.close()


def test_a_real_camera_over_tls(camera_over_tls, certificates):
    with camera_over_tls as url:
        assert why_not(url, tls_ca=certificates.ca) == ""
        assert "not trusted" in why_not(url)


@pytest.fixture
def camera_over_tls(tmp_path, certificates):
    film = write_camera_video(tmp_path / "film.mp4", seconds=10.0, fps=5)

    @contextlib.contextmanager
    def running():
        with (
            RtspCamera(user="viewer", password="geheim", film=film) as camera,
            in_front(camera.port, certificates.folder / "right.pem") as port,
        ):
            yield f"rtsps://viewer:geheim@{HOST}:{port}/film"

    return running()


# ---------------------------------------------------------------- passwords and redirects

WANTS_BASIC = '401 Unauthorized\r\nWWW-Authenticate: Basic realm="x"'
WANTS_DIGEST = '401 Unauthorized\r\nWWW-Authenticate: Digest realm="x", nonce="n"'


def wants(challenge: str, then: str):
    return lambda headers: then if "Authorization" in headers else challenge


def test_a_password_does_not_follow_a_redirect_to_another_host():
    """FFmpeg itself would send it: its RTSP client keeps user and password across redirects."""
    with rtsp(wants(WANTS_BASIC, "404 Not Found")) as (other, stolen):
        moved_to = f"302 Found\r\nLocation: rtsp://{other}/x"
        for challenge in (moved_to, WANTS_BASIC, WANTS_DIGEST):
            stolen.clear()
            with rtsp(wants(challenge, moved_to)) as (first, requests):
                assert why_not(f"rtsp://viewer:geheim@{first}/s")
                assert requests and stolen, "the redirect was not followed"
                assert not [header for _, header in stolen if header]


def test_a_password_follows_a_redirect_on_its_host(film):
    def answer(handler):
        if handler.path == "/a":
            handler.send_response(302)
            handler.send_header("Location", "/b.mp4")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
        elif handler.headers.get("Authorization") is None:
            handler.send_response(401)
            handler.send_header("WWW-Authenticate", 'Basic realm="x"')
            handler.send_header("Content-Length", "0")
            handler.end_headers()
        else:
            film(handler)

    with web(answer) as (host, requests):
        assert why_not(f"http://viewer:geheim@{host}/a") == ""
        assert requests[-1][0] == "/b.mp4" and requests[-1][1]


def test_a_redirect_does_not_lead_out_of_tls(certificates, film):
    with web(film) as (plain, requests):

        def answer(handler):
            handler.send_response(302)
            handler.send_header("Location", f"http://{plain}/v.mp4")
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        with web(answer, certificates.folder / "right.pem") as (host, _):
            said = why_not(f"https://{host}/v.mp4", tls_ca=certificates.ca)
        assert "redirects out of TLS" in said and not requests


def test_a_camera_that_offered_digest_gets_no_basic():
    """A man in the middle would ask for Basic, to read the password."""
    challenge = [WANTS_DIGEST]
    with rtsp(lambda headers: wants(challenge[0], "404 Not Found")(headers)) as (host, requests):
        endpoint = NetworkEndpoint(f"rtsp://viewer:geheim@{host}/s", SourceOptions())
        with pytest.raises(av.FFmpegError):
            endpoint.open(3.0, 3.0)
        challenge[0] = WANTS_BASIC
        with pytest.raises(Unavailable, match="wants the password in plain text; not sent"):
            endpoint.open(3.0, 3.0)
    assert any(header and header.startswith("Digest") for _, header in requests)
    assert not [header for _, header in requests if header and header.startswith("Basic")]


@pytest.mark.parametrize(
    ("url", "location", "leads_to"),
    [
        ("http://u:p@h/a", "/b", "http://u:p@h/b"),
        ("http://u:p@h/a", "http://h/b", "http://u:p@h/b"),
        ("http://u:p@h/a", "https://h/b", "https://u:p@h/b"),
        ("http://u:p@h/a", "http://h:81/b", "http://h:81/b"),
        ("http://u:p@h/a", "http://evil/b", "http://evil/b"),
        ("http://u:p@h/a", "http://x:y@evil/b", "http://evil/b"),
        ("rtsp://u:p@h/a", "rtsp://h:554/b", "rtsp://u:p@h:554/b"),
    ],
)
def test_where_a_redirect_takes_the_password(url, location, leads_to):
    assert moved(url, location) == leads_to


# ---------------------------------------------------------------- playlists over HTTP


def hls(folder: Path, film: Path) -> Path:
    """Segments of a film, and their playlist."""
    with av.open(str(film)) as source, av.open(str(folder / "a.ts"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return folder / "a.ts"


def serve_folder(playlist: str, segment: bytes):
    return sending(lambda path: playlist.encode() if path.endswith(".m3u8") else segment)


@pytest.mark.parametrize("how", ["listed", "redirected"])
def test_a_playlist_is_read_from_its_own_host_only(tmp_path, video, how):
    """A camera's reply could make the runner fetch what only this machine can reach (SSRF)."""
    segment = hls(tmp_path, video).read_bytes()
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:2.5,\n"
    with web(serve_folder("", segment)) as (inside, reached):
        name = f"http://{inside}/a.ts" if how == "listed" else "a.ts"
        plain = serve_folder(f"{head}{name}\n#EXT-X-ENDLIST\n", segment)

        def answer(handler):
            if how == "redirected" and handler.path == "/a.ts":
                handler.send_response(302)
                handler.send_header("Location", f"http://{inside}/a.ts")
                handler.send_header("Content-Length", "0")
                handler.end_headers()
            else:
                plain(handler)

        with web(answer) as (host, requests):
            said = why_not(f"http://{host}/v.m3u8")
        assert "another host" in said and requests and not reached


def test_a_recording_in_segments_is_read_to_its_end(tmp_path, video):
    segment = hls(tmp_path, video).read_bytes()
    text = "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:2.5,\na.ts\n#EXT-X-ENDLIST\n"
    best = '#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=9,CODECS="a,b"\nbest.m3u8\n'
    with web(serve_folder(text, segment)) as (host, _):
        for url in (f"http://{host}/v.m3u8",):
            source = open_source(url, SourceOptions(), print)
            assert len(list(source)) == 40 and source.live is False
    assert parse(best, "http://h/a.m3u8").variants == [(9, "http://h/best.m3u8")]


def test_what_a_playlist_says_is_read():
    found = parse(
        '#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:URI="i.mp4"\n'
        "#EXT-X-BYTERANGE:10@5\na.m4s\n#EXT-X-BYTERANGE:20\na.m4s\nsub/b.m4s\n",
        "http://u:p@h/x/l.m3u8",
    )
    base = "http://u:p@h/x"
    assert found.parts == [
        (f"{base}/i.mp4", ""),
        (f"{base}/a.m4s", "bytes=5-14"),
        (f"{base}/a.m4s", "bytes=15-34"),
        (f"{base}/sub/b.m4s", ""),
    ]
    assert (found.sequence, found.target_s, found.ended) == (7, 4.0, False)
    with pytest.raises(Unavailable, match="encrypted"):
        parse('#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="k"\n', "http://h/l.m3u8")


@pytest.mark.parametrize(
    "line", ["#EXT-X-MAP:" + "A" * 1_000_000, "#X:" + 'A="' * 300_000, "#X:" + 'A=",' * 250_000]
)
def test_a_long_line_of_a_playlist_does_not_stop_the_other_cameras(line):
    """All threads wait for a regular expression; in quadratic time it would take an hour."""
    began = time.process_time()
    assert parse(f"#EXTM3U\n{line}\na.ts\n", "http://h/l.m3u8").parts == [("http://h/a.ts", "")]
    assert time.process_time() - began < 5


@pytest.mark.parametrize("value", ["9" * 5000, "5@" + "9" * 5000])
def test_a_number_in_a_playlist_may_have_any_length(value):
    found = parse(f"#EXTM3U\n#EXT-X-BYTERANGE:{value}\na.ts\n", "http://h/l.m3u8")
    assert found.parts[0][1].startswith("bytes=")


# ---------------------------------------------------------------- answers of any kind

ANSWERS = [
    b"",
    b"\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: httpss://h/\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://h:99999999/\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://[::1/\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://" + b"x" * 70 + b"/\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n",
    b"HTTP/1.1 401 No\r\nWWW-Authenticate: Digest\r\nContent-Length: 0\r\n\r\n",
    b'HTTP/1.1 401 No\r\nWWW-Authenticate: Digest realm="x",nonce="y",algorithm=rot13\r\n\r\n',
    b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n#EXTM3U\n",
    b'HTTP/1.1 200 OK\r\n\r\n#EXTM3U\n#EXT-X-MAP:URI="http://["\n',
    b"HTTP/1.1 200 OK\r\n\r\n#EXTM3U\n" + b"#EXT-X-STREAM-INF:BANDWIDTH=9\nv.m3u8\n" * 3,
]


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
@pytest.mark.parametrize("number", range(len(ANSWERS)))
def test_no_answer_makes_more_than_a_reason(scheme, number):
    """Whatever a server says: one line, and no other host."""
    content = ANSWERS[number].replace(b"HTTP/1.1", b"RTSP/1.0" if scheme == "rtsp" else b"HTTP/1.1")

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = server.accept()
                with contextlib.suppress(OSError), peer:
                    peer.recv(4096)
                    peer.sendall(content)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        url = f"{scheme}://viewer:geheim@127.0.0.1:{server.getsockname()[1]}/v"
        said = why_not(url)
        server.shutdown(socket.SHUT_RDWR)
    assert said and "\n" not in said and "geheim" not in said


def test_an_answer_that_drips_is_given_up(monkeypatch):
    """A limit on silence alone would block a thread for hours."""
    monkeypatch.setattr("edgevid.media.network.ANSWER_S", 0.5)

    def serve() -> None:
        peer, _ = server.accept()
        with contextlib.suppress(OSError), peer:
            peer.sendall(b"RTSP/1.0 200 OK\r\n")
            while True:
                peer.sendall(b"x")
                time.sleep(0.02)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        began = time.monotonic()
        said = why_not(f"rtsp://viewer:geheim@127.0.0.1:{server.getsockname()[1]}/v")
    assert said.startswith("ended: ") and time.monotonic() - began < 5
