"""Videos of many kinds, made by FFmpeg's own program, and what that program reads of them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rigs.need import need_program

SIZE = (48, 64)
BARS = 8
CODECS: dict[str, tuple[str, ...]] = {
    "libx264": ("-preset", "ultrafast"),
    "libx265": ("-preset", "ultrafast", "-x265-params", "log-level=none"),
    "mpeg4": ("-q:v", "3"),
    "mpeg2video": ("-q:v", "3"),
    "mjpeg": ("-q:v", "3"),
    "libvpx": ("-deadline", "realtime", "-cpu-used", "8", "-b:v", "500k"),
    "libvpx-vp9": ("-deadline", "realtime", "-cpu-used", "8", "-b:v", "500k"),
    "ffv1": (),
}
CONTAINERS: dict[str, tuple[str, ...]] = {
    "libx264": ("mp4", "mov", "mkv", "ts", "flv", "avi", "h264", "nut"),
    "libx265": ("mp4", "mkv", "ts", "hevc"),
    "mpeg4": ("mp4", "avi", "mkv", "m4v"),
    "mpeg2video": ("ts", "mpg", "mkv", "m2v"),
    "mjpeg": ("avi", "mov", "mkv", "mjpeg"),
    "libvpx": ("webm", "mkv"),
    "libvpx-vp9": ("webm", "mp4"),
    "ffv1": ("mkv", "nut"),
}
B_FRAMES = {"libx264", "libx265", "mpeg4", "mpeg2video"}
JOINED = {"ts", "mpg", "h264", "hevc", "m2v", "mjpeg"}
TURNED = {"mp4", "mov"}
RATED = {"mpeg4": 60, "mpeg2video": 60}
"""Codecs that cannot store every rate."""


@dataclass(frozen=True)
class Recipe:
    """How to make a video."""

    codec: str = "libx264"
    container: str = "mp4"
    frames: int = 20
    fps: float = 25.0
    b_frames: int = 0
    gop: int = 12
    irregular: bool = False
    later_s: float = 0.0
    joined: bool = False
    hidden: int = 0
    rotate: int = 0
    damage: str = ""


def numbered(frames: int, first: int = 0) -> bytes:
    """Grey frames, each showing its number as bars: raw yuv420p."""
    height, width = SIZE
    out = bytearray()
    for number in range(first, first + frames):
        bits = [(number >> bit) & 1 for bit in range(BARS)]
        row = np.repeat(np.array(bits, np.uint8) * 150 + 50, width // BARS)
        image = np.tile(row, (height, 1))
        image[: height // 4] = 128 + (number % 2) * 60  # the top differs from the bottom
        out += image.tobytes() + bytes([128]) * (height * width // 2)
    return bytes(out)


def ffmpeg(*arguments: str, give: bytes | None = None) -> bytes:
    """Run the program; give its output."""
    program = need_program("ffmpeg", "ffmpeg")
    done = subprocess.run(
        [program, "-v", "error", "-y", *arguments], input=give, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


def make(folder: Path, recipe: Recipe) -> Path:
    """Make a video; its frames can be told apart by their bars."""
    one = folder / f"one.{recipe.container}"
    _encode(one, recipe)
    if recipe.hidden:
        shown = folder / f"shown.{recipe.container}"
        after_s = (recipe.hidden + 0.5) / recipe.fps
        ffmpeg("-ss", f"{after_s:.6f}", "-i", str(one), "-c", "copy", str(shown))
        one = shown
    if recipe.rotate:
        turned = folder / f"turned.{recipe.container}"
        tag = ("-metadata:s:v:0", f"rotate={recipe.rotate}")
        ffmpeg("-i", str(one), "-c", "copy", *tag, str(turned))
        one = turned
    if recipe.joined:
        joined = folder / f"joined.{recipe.container}"
        joined.write_bytes(one.read_bytes() * 2)
        one = joined
    if recipe.damage:
        spoilt = folder / f"spoilt.{recipe.container}"
        ffmpeg("-i", str(one), "-c", "copy", "-bsf:v", recipe.damage, str(spoilt))
        one = spoilt
    return one


def _encode(path: Path, recipe: Recipe) -> None:
    height, width = SIZE
    raw = ("-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{width}x{height}")
    options = [*CODECS[recipe.codec], "-g", str(recipe.gop), "-pix_fmt", "yuv420p"]
    if recipe.codec == "mjpeg":
        options = [*options[:-1], "yuvj420p"]
    if recipe.codec in B_FRAMES:
        options += ["-bf", str(recipe.b_frames)]
    if recipe.irregular:
        options += ["-vf", "setpts=PTS+mod(N\\,3)*0.4/TB/FR", "-fps_mode", "passthrough"]
    if recipe.later_s:
        options += ["-output_ts_offset", f"{recipe.later_s:.3f}"]
    ffmpeg(
        *raw,
        "-r",
        f"{recipe.fps:g}",
        "-i",
        "-",
        "-c:v",
        recipe.codec,
        *options,
        str(path),
        give=numbered(recipe.frames),
    )


def read_by_ffmpeg(path: Path, size: tuple[int, int]) -> np.ndarray:
    """What the program reads: uint8 ``(frames, height, width)``, grey, turned upright.

    Args:
        path: The video.
        size: Height and width of its upright images.
    """
    out = ffmpeg(
        "-i",
        str(path),
        "-map",
        "0:V:0",
        "-fps_mode",
        "passthrough",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "gray",
        "-",
    )
    return np.frombuffer(out, np.uint8).reshape(-1, *size)
