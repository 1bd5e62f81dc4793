"""Metadata of an IR for other readers: ``model_info``, as OpenVINO's Model API reads it."""

from __future__ import annotations

from xml.sax.saxutils import quoteattr

from edgevid.contract import Contract
from edgevid.media.preprocessing import LETTERBOX_GREY
from edgevid.tasks.host import open_host

RESIZE_TYPES = {
    "crop": "crop",
    "letterbox": "fit_to_window_letterbox",
    "stretch": "standard",
}
END = b"</net>"


def described(xml: bytes, contract: Contract) -> bytes:
    """Add what the contract records about its frame and its labels."""
    entries = "".join(
        f"<{key} value={quoteattr(value)}/>" for key, value in sorted(model_info(contract).items())
    )
    if not entries:
        return xml
    head, end, tail = xml.rpartition(END)
    info = f"<rt_info><model_info>{entries}</model_info></rt_info>"
    return head + info.encode() + end + tail


def model_info(contract: Contract) -> dict[str, str]:
    """Return the entries that Model API reads; empty for models without a frame or labels.

    ``model_type``, which lets it open the model, is set only if a single frame is enough for a
    prediction, since it knows no state. There are no means and scales: the graph takes bytes.
    """
    if not contract.labels or not contract.is_video:
        return {}
    info = {
        "input_dtype": "u8",
        # Labels are separated by spaces.
        "labels": " ".join("_".join(label.split()) or "_" for label in contract.labels),
        "resize_type": RESIZE_TYPES[contract.frame.fit],
        # Model API reads images with OpenCV, in BGR; the graph takes RGB.
        "reverse_input_channels": "YES",
    }
    if contract.frame.fit == "letterbox":
        info["pad_value"] = str(LETTERBOX_GREY)
    kind = None if contract.states else open_host(contract.task).model_api_type(contract)
    if kind:
        info["model_type"] = kind
    return info
