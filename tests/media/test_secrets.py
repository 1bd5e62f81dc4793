"""No password in what people see, however a camera's URL is written."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevid.media.secrets import with_secrets, without_secrets
from edgevid.media.sources import SourceOptions
from edgevid.runner.config import CameraUse, derived_name

SECRET = "hunter2"
users = st.text("abcAZ09._-", min_size=1, max_size=8)
# What people put around it without escaping, which a URL's grammar does not allow.
extras = st.text("ab09@:/?#[]%!$&'()*+,;= \\\"é\u2028", max_size=4)
paths = st.sampled_from(["", "/", "/stream1", "/a/b?channel=1&subtype=0", "/x#y", ":554/x", "/é"])


@settings(max_examples=500, deadline=None)
@given(users, extras, extras, paths)
def test_a_password_never_survives(user, before, after, path):
    url = f"rtsp://{user}:{before}{SECRET}{after}@10.0.0.5{path}"
    assert SECRET not in without_secrets(url)
    assert SECRET not in derived_name(url)
    assert SECRET not in repr(CameraUse("door", url))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30))
def test_any_text_at_all_is_taken(text):
    without_secrets(text)
    without_secrets(f"rtsp://{text}")


@settings(max_examples=200, deadline=None)
@given(users, st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12))
def test_a_login_that_is_put_in_is_taken_out_again(user, password):
    url = "rtsp://10.0.0.5:554/stream?channel=1"
    assert without_secrets(with_secrets(url, user, password)) == url


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("rtsp://10.0.0.5/stream", "rtsp://10.0.0.5/stream"),
        ("rtsp://u:p@[fe80::1]:554/x", "rtsp://[fe80::1]:554/x"),
        ("rtsp://u:p@[fe80::1", "rtsp://[fe80::1"),
        ("rtsp://u@h/cam@1", "rtsp://h/cam@1"),
        ("http://h/v.cgi?user=u&pwd=hunter2", "http://h/v.cgi?user=u&pwd=***"),
        ("rtsp://h/user=a&password=hunter2&channel=1.sdp", "rtsp://h/user=a&password=***&channel=1.sdp"),
        ("rtsp://h/user=a_password=hunter2_channel=1", "rtsp://h/user=a_password=***"),
        ("rtsp://u:p@w/hunter2@h/x", "rtsp://h/x"),
        ("/dev/video0", "/dev/video0"),
        ("film.mp4", "film.mp4"),
    ],
)  # fmt: skip
def test_what_is_seen(url, seen):
    assert without_secrets(url) == seen


def test_options_show_no_password():
    assert SECRET not in repr(SourceOptions(password=SECRET))
