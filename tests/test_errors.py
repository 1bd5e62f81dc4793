"""What is taken from the text of other libraries' errors."""

from __future__ import annotations

import pytest

from edgevid.errors import named_reason, reason_of, shorten


def test_the_reason_is_a_line_with_words_whatever_comes_before_and_after_it():
    numpy = ImportError("\n\nIMPORTANT: read this\n\n  * and that\n")
    assert reason_of(numpy) == "IMPORTANT: read this"
    assert reason_of(numpy, last=True) == "* and that"
    assert named_reason(numpy) == "ImportError: IMPORTANT: read this"
    assert reason_of(OSError()) == named_reason(OSError("\n")) == "OSError"
    assert reason_of(RuntimeError("at x.cpp:1\n └ wrong shape"), last=True) == "wrong shape"


@pytest.mark.parametrize("most", [40, 300])
def test_a_long_text_keeps_both_its_ends_in_whole_words(most):
    assert shorten("two\n  lines ", most) == "two lines"
    words = [f"word{number}" for number in range(200)]
    short = shorten(" ".join(words), most)
    assert len(short) <= most
    head, tail = short.split(" ... ")
    assert head.split() == words[: len(head.split())]
    assert tail.split() == words[-len(tail.split()) :]
    assert len(shorten("x" * 1000, most)) == most
