"""A tiny H.264 encoder for what no common encoder writes: pictures coded as two fields each.

Every macroblock is raw samples (I_PCM), so that a decoder gives exactly what went in.
"""

from __future__ import annotations

MACROBLOCK = 16


class Bits:
    """Bits in the order of H.264, with Exp-Golomb codes."""

    def __init__(self) -> None:
        self.text: list[str] = []

    def u(self, value: int, width: int) -> Bits:
        """An unsigned number."""
        self.text.append(format(value, f"0{width}b"))
        return self

    def ue(self, value: int) -> Bits:
        """An unsigned Exp-Golomb code."""
        code = format(value + 1, "b")
        self.text.append("0" * (len(code) - 1) + code)
        return self

    def align(self, bit: str = "0") -> Bits:
        """Fill the byte."""
        self.text.append(bit * (-sum(map(len, self.text)) % 8))
        return self

    def end(self) -> bytes:
        """The stop bit, and the bytes."""
        self.text.append("1")
        self.align()
        text = "".join(self.text)
        return bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))


def unit(kind: int, payload: bytes) -> bytes:
    """A NAL unit with its start code; emulated start codes are escaped."""
    out, zeros = bytearray(), 0
    for byte in payload:
        if zeros >= 2 and byte <= 3:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return b"\0\0\0\1" + bytes([0x60 | kind]) + bytes(out)


def field_pictures(levels: list[int], *, rate: int | None = None) -> bytes:
    """Pictures of 16x32 pixels, each of one grey level, each coded as two fields.

    Args:
        levels: Grey level of each picture, 1 to 255.
        rate: Frames per second in the bitstream; None writes none.

    Returns:
        The byte stream.
    """
    sequence = Bits().u(66 + 11, 8).u(0, 8).u(30, 8).ue(0).ue(0).ue(2).ue(1).u(0, 1)
    sequence.ue(0).ue(0).u(0, 1).u(0, 1).u(1, 1).u(0, 1).u(rate is not None, 1)
    if rate is not None:
        sequence.u(0, 4).u(1, 1).u(1, 32).u(2 * rate, 32).u(1, 1).u(0, 4)
    pictures = Bits().ue(0).ue(0).u(0, 1).u(0, 1).ue(0).ue(0).ue(0).u(0, 1).u(0, 2)
    pictures.ue(0).ue(0).ue(0).u(0, 1).u(0, 1).u(0, 1)
    out = unit(7, sequence.end()) + unit(8, pictures.end())
    for number, level in enumerate(levels):
        for bottom in (0, 1):
            header = Bits().ue(0).ue(7).ue(0).u(0, 4).u(1, 1).u(bottom, 1)
            if bottom:
                header.u(0, 1)
            else:
                header.ue(number % 2).u(0, 1).u(0, 1)
            body = header.ue(0).ue(25).align()
            for _ in range(MACROBLOCK * MACROBLOCK):
                body.u(level, 8)
            for _ in range(MACROBLOCK * MACROBLOCK // 2):
                body.u(128, 8)
            out += unit(1 if bottom else 5, body.end())
    return out
