"""Where results go. A sink is a plug-in of kind ``sink``; one module per sink.

A sink subclasses `Sink` and implements `Sink.write`::

    @dataclass(frozen=True)
    class WebhookOptions:
        url: str
        timeout_s: float = 5.0

    class Webhook(Sink):
        Options = WebhookOptions

        def write(self, result: Result) -> None:
            ...  # result.to_json() is plain data

The runner gives every sink a bounded queue and a thread of its own, so `Sink.write` may block and
may raise: other sinks and the streams continue, and the error is shown in the status.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from edgevid import registry
from edgevid.settings import NoOptions

if TYPE_CHECKING:
    from edgevid.results import Result

__all__ = ["Sink", "open_sink", "sink_class"]


class Sink(ABC):
    """Takes results. All methods but ``__init__`` are called from one thread, the sink's own.

    Attributes:
        Options: Frozen dataclass of the sink's options: the keys of its ``[[sink]]`` table. Types
            are ``str``, ``int``, ``float``, ``bool``, ``Path``, ``Literal`` and tuples of these;
            `edgevid.settings.option` adds a check. ``kind``, ``name`` and ``queue`` are taken.
        needs_frame: Whether `Result.frame` must hold the frame with its image.
    """

    Options: ClassVar[type] = NoOptions
    needs_frame: ClassVar[bool] = False

    def __init__(self, options: Any) -> None:
        """Open the sink; must not wait for a peer; that is `write`'s job.

        Args:
            options: An instance of ``Options``.

        Raises:
            BadInput: The options can never work.
        """
        self.options = options

    @abstractmethod
    def write(self, result: Result) -> None:
        """Take one result.

        Any exception counts the result as failed. A sink that wants to retry does so here.
        """

    def flush(self) -> None:  # noqa: B027 - optional
        """Send what `write` has buffered; called after each batch of results.

        An exception counts all results of the batch as failed.
        """

    def reopen(self) -> None:  # noqa: B027 - optional
        """Open files or connections again, after SIGHUP: for log rotation."""

    def close(self) -> None:  # noqa: B027 - optional
        """Release everything; called once, after the last `flush`."""


def sink_class(kind: str) -> type[Sink]:
    """Load the class of the sink plug-in ``kind``.

    Raises:
        BadInput: There is no such sink.
        MissingExtra: Its library is not installed.
        PluginFailed: The sink of another package cannot be imported.
    """
    found: type[Sink] = registry.load_class("sink", kind, Sink)
    return found


def open_sink(kind: str, options: Any) -> Sink:
    """Open the sink ``kind`` with an instance of its ``Options``.

    Raises:
        BadInput: There is no such sink, or its options cannot work.
        MissingExtra: Its library is not installed.
        PluginFailed: The sink of another package cannot be imported, opened or used.
    """
    return registry.instance("sink", kind, sink_class(kind), options)
