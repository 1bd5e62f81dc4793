"""URLs with user and password, and what of them may be shown."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

HIDDEN = "***"
SECRET_KEYS = re.compile(r"pass|pwd|psw|secret|token|key|auth|credential|sig", re.IGNORECASE)

_SECRET_IN_PATH = re.compile(r"((?:pass|pwd|psw|secret|token)\w*=)[^&/]*", re.IGNORECASE)


def without_secrets(url: str) -> str:
    """The URL as it may be shown: without user, password and keys in the query."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    host = re.split("[/?#]", rest, maxsplit=1)[0]
    if ":" in host:  # maybe a password, which ends at the very last @: it may contain anything
        rest = rest.rpartition("@")[2]
    elif "@" in host:
        rest = rest[host.rindex("@") + 1 :]
    path, asked, query = rest.partition("#")[0].partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    if any(SECRET_KEYS.search(key) for key, _ in pairs):
        shown = [(key, HIDDEN if SECRET_KEYS.search(key) else value) for key, value in pairs]
        query = urlencode(shown, safe="*")
    path = _SECRET_IN_PATH.sub(rf"\1{HIDDEN}", path)
    return f"{scheme}{mark}{path}{asked}{query}"


def argument_without_secrets(argument: str) -> str:
    """Return a command-line argument without the secrets in its URL or in ``password=...``."""
    hidden = _SECRET_IN_PATH.sub(rf"\1{HIDDEN}", argument)
    return without_secrets(hidden) if "@" in hidden or "?" in hidden else hidden


def with_secrets(url: str, user: str | None, password: str | None) -> str:
    """The URL with user and password, percent-encoded.

    Args:
        url: The URL; what it already contains of the two is kept unless given.
        user: The user name, as it is; None keeps the URL's.
        password: The password, as it is; None keeps the URL's.

    Returns:
        The URL to connect to. Never show it.
    """
    if user is None and password is None:
        return url
    parts = urlsplit(url)
    known, _, host = parts.netloc.rpartition("@")
    known_user, _, known_password = known.partition(":")
    user = unquote(known_user) if user is None else user
    password = unquote(known_password) if password is None else password
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return urlunsplit((parts.scheme, f"{login}@{host}", parts.path, parts.query, parts.fragment))
