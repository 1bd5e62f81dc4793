"""The only place where FFmpeg opens an input.

FFmpeg guesses the format from the content and opens whatever that content names: a session
description binds UDP ports, a playlist fetches other addresses. So each kind of source has an
allow-list of formats and protocols, and no decoder makes images beyond `MAX_PIXELS`.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any

from edgevid.errors import BadVideo
from edgevid.registry import need

MAX_SIDE = 8192
MAX_PIXELS = MAX_SIDE * MAX_SIDE
"""The most pixels of an image: twice those of 8K video. A decoder refuses larger images before it
allocates memory."""

_VIDEO = (
    "3dostr 4xm alp anm apng apv argo_brp asf asf_o av1 avi avs avs2 avs3 bethsoftvid bfi bink "
    "bmv c93 cavsvideo cdg cdxl cine dhav dirac dnxhd dv dxa ea evc film_cpk filmstrip fits flic "
    "flv frm gdv gif gxf h261 h263 h264 hevc hnm hxvs iamf idcin iff ifv ingenient ipmovie ipu "
    "iv8 ivf ivr jpegxl_anim jv kux live_flv lmlm4 luodat lvf lxf m4v matroska mgsts mjpeg "
    "mjpeg_2000 mlv mm moflex mov mpeg mpegts mpegvideo mpjpeg msnwctcp mtv mv mvi mxf mxg nsv "
    "nut nuv obu ogg paf pdv pmp psxstr pva r3d rl2 rm roq rpl sdr2 ser sga siff simbiosis_imx "
    "smjpeg smk smush swf thp tiertexseq tmv ty usm vc1 vc1test vidc vividas vivo vmd vpk vvc "
    "wc3movie wsvqa wtv wv xmv yop yuv4mpegpipe"
)
_SOUND = (
    "aac ac3 ac4 aiff amr amrnb amrwb ape au caf dts dtshd eac3 flac gsm loas mlp mp3 mpc mpc8 "
    "tak truehd tta w64 wav xwma"
)
_STILLS = (
    "bmp_pipe dds_pipe dpx_pipe exr_pipe gif_pipe hdr_pipe ico j2k_pipe jpeg_pipe jpegls_pipe "
    "jpegxl_pipe pam_pipe pbm_pipe pcx_pipe pfm_pipe pgm_pipe pgmyuv_pipe phm_pipe png_pipe "
    "ppm_pipe psd_pipe qoi_pipe sgi_pipe sunrast_pipe tiff_pipe webp_pipe xbm_pipe xpm_pipe "
    "xwd_pipe"
)
_ONE_FILE = (_VIDEO + " " + _SOUND + " " + _STILLS).split()
"""Formats whose content names no other file, address or device; sound and stills are recognised
only to report them."""


@dataclass(frozen=True)
class Access:
    """What FFmpeg may do for one kind of source.

    Attributes:
        formats: The demuxers that may read it; if FFmpeg detects another one, opening fails.
        protocols: The protocols that it may open, by itself or because the content says so.
    """

    formats: tuple[str, ...]
    protocols: tuple[str, ...]

    def options(self) -> dict[str, str]:
        """Options of `av.open`."""
        return {
            "format_whitelist": ",".join(self.formats),
            "protocol_whitelist": ",".join(self.protocols),
            "max_pixels": str(MAX_PIXELS),
        }


_NOTHING = ("none",)
"""No protocol has this name; an empty list would allow all of them."""
_TLS = ("tls", "httpproxy")
_RTP = ("rtp", "udp")

FILE = Access((*_ONE_FILE, "image2"), ("file",))
MEMORY = Access(tuple(_ONE_FILE), _NOTHING)
"""A clip in a bundle, or a pipe."""
HTTP = Access(tuple(_ONE_FILE), ("http", "tcp", "httpproxy"))
HTTPS = Access(tuple(_ONE_FILE), ("https", "tcp", *_TLS))
SEGMENTS = Access(("mpegts", "mov"), _NOTHING)
"""Segments of HLS, which edgevid fetches itself."""
RTSP = Access(("rtsp",), ("tcp", *_RTP))
RTSPS = Access(("rtsp",), ("tcp", *_TLS, *_RTP))
V4L2 = Access(("v4l2",), ("file",))
PICAMERA = Access(("h264",), _NOTHING)


def open_input(
    file: Any, access: Access, options: dict[str, str] | None = None, **more: Any
) -> Any:
    """Open a container to read.

    Args:
        file: A path or URL as FFmpeg takes it, or an open binary file.
        access: What FFmpeg may do for it.
        options: Further options of FFmpeg.
        **more: Further arguments of `av.open`.

    Returns:
        The `av` container. Its decoders refuse images of more than `MAX_PIXELS`.

    Raises:
        av.FFmpegError: FFmpeg cannot open it, or may not.
        BadVideo: It declares larger images.
        MissingExtra: PyAV is not installed.
    """
    av = need("av", "runner")
    allowed = access.options()
    container: Any = av.open(
        file, options={**(options or {}), **allowed}, metadata_errors="replace", **more
    )
    for stream in container.streams.video:
        context = stream.codec_context
        if context is None:
            continue
        if context.width * context.height > MAX_PIXELS:
            size = f"{context.width}x{context.height}"
            container.close()
            raise BadVideo(f"images of {size} pixels; {TOO_LARGE}")
        # PyAV opens a decoder of its own after those of the container have looked at the content.
        context.options = {**context.options, "max_pixels": str(MAX_PIXELS)}
    return container


TOO_LARGE = f"scale the video to at most {MAX_SIDE}x{MAX_SIDE} pixels"


def why_not_opened(error: Any) -> str:
    """Why FFmpeg did not open an input, in plain words.

    Args:
        error: An `av.FFmpegError`.
    """
    if error.errno == errno.EINVAL:
        return "not a video format; playlists and stream descriptions are not opened"
    return str(getattr(error, "strerror", None) or error)
