"""The command line: parses and prints, no logic; one module per command, imported when called.

Exit codes: 0 done; 1 a check failed; 2 usage error or bad input; 3 inconclusive; 4 environment
error; 130 interrupted. If the reader of stdout closes it, the end is quiet and the code 0.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from types import FrameType
from typing import Any

import click

from edgevid import __version__
from edgevid.cli import console
from edgevid.errors import BadInput, EdgevidError
from edgevid.output import ReaderGone, stdout_reader_is_gone

# name -> (module in this package, one line of help): listing the commands imports none of them
COMMANDS = {
    "bench": ("bench", "Measure every artifact of a bundle."),
    "convert": (
        "host.convert",
        "Convert a model to TFLite and OpenVINO and verify the result.",
    ),
    "dataset": ("host.dataset", "Create and check datasets."),
    "demo": ("host.demo", "Train, convert, run and benchmark a model on this machine."),
    "doctor": ("doctor", "Check this machine and suggest a fix for each problem."),
    "evaluate": (
        "host.evaluate",
        "Compute the task metric of a run or of each artifact.",
    ),
    "fleet": ("host.fleet", "Show what many devices run and how well."),
    "flash": ("host.flash", "Deploy the runner and bundles to a device, or roll back."),
    "inspect": ("inspect", "Show a bundle's contract and evidence."),
    "keys": ("host.keys", "Show or create the key that signs deployments."),
    "run": ("run", "Run a bundle on video files and cameras."),
    "schema": ("host.schema", "Print the JSON schema of a document."),
    "targets": ("host.targets", "List supported devices and probe one."),
    "train": ("host.train", "Train a model on labelled clips."),
    "verify": ("verify", "Replay a bundle's golden trajectory on this machine."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command's name."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command.

        Args:
            ctx: The context of the group.
            cmd_name: The command's name.

        Returns:
            The command; None if there is none of that name.

        Raises:
            BadInput: The command is not part of this installation.
        """
        if cmd_name not in COMMANDS:
            return None
        module = f"edgevid.cli.{COMMANDS[cmd_name][0]}"
        try:
            command: click.Command = import_module(module).command
        except ModuleNotFoundError as error:
            if error.name not in (module, "edgevid.cli.host"):
                raise
            raise BadInput(
                f"edgevid {cmd_name} is not available on a device; run it on a computer"
            ) from None
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command.

        Args:
            ctx: The context of the group.
            args: The arguments; the first one names the command.

        Returns:
            See `click.Group.resolve_command`.

        Raises:
            BadInput: There is no such command; the message has the closest match.
        """
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            from edgevid.registry import unknown

            raise BadInput(unknown("command", args[0], COMMANDS))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgevid")
def cli() -> None:
    """Train, convert, prove, run and benchmark compact video models on edge devices.

    Start with:  edgevid demo --out demo
    """


def main() -> None:
    """Run the command line; an error becomes one line and an exit code."""
    _occupy_standard_streams()
    warning = _hide_secrets()
    for number, handler in ((signal.SIGTERM, _terminate), (signal.SIGINT, _interrupt)):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as in a shell's background
            signal.signal(number, handler)
    for stream in (sys.stdout, sys.stderr):
        console.let_names_through(stream)
    if not sys.warnoptions and "--debug" not in sys.argv:
        warnings.simplefilter("ignore")  # of libraries: they are for programmers
    if warning:
        console.say(f"edgevid: {warning}")
    try:
        code = _code_of(_run) or _code_of(console.flush)
    finally:
        console.abandon_unwritten()
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the rest needs no unwinding
    sys.exit(code)


def _hide_secrets() -> str:
    """Hide secrets in the command line from other users; returns a warning, or an empty string."""
    if not any("=" in one or "://" in one for one in sys.argv):
        return ""
    from edgevid.cli.hidden import hide_secrets

    return hide_secrets()


def _run() -> int:
    """Parse the command line and run the command; returns its exit code."""
    if "_EDGEVID_COMPLETE" in os.environ:
        cli.main(prog_name="edgevid")
    # Not click's `main`: it answers a closed pipe with exit code 1, which is for checks.
    try:
        with cli.make_context("edgevid", sys.argv[1:]) as context:
            outcome = cli.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    return outcome if isinstance(outcome, int) else 0


def _code_of(act: Callable[[], int]) -> int:
    """Call ``act``; what it raises becomes one line and an exit code."""
    try:
        return act()
    except EdgevidError as error:
        return _report(str(error), error.exit_code, type(error).__name__, error)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 2
    except click.ClickException as error:
        return _report(error.format_message() + _of_a_file(error), 2, "BadInput", error)
    except (click.Abort, KeyboardInterrupt):
        return _report("interrupted; nothing was left half-written", 130, "Interrupted", None)
    except OSError as error:
        return _of_the_system(error)
    except MemoryError as error:
        text = "out of memory; close other programs, or use a machine with more memory"
        return _report(text, 4, "EnvironmentFailed", error)


def _of_a_file(error: click.ClickException) -> str:
    """How to name the file that an unknown option is; nothing if there is no such file."""
    if not isinstance(error, click.NoSuchOption):
        return ""
    for argument in sys.argv[1:]:
        if argument.startswith(error.option_name) and os.path.lexists(argument):
            return f" For a file of that name, write ./{argument}"
    return ""


_NOT_OURS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO),
    *(errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
}
"""What the system refuses, whatever the program; any other OSError that escapes is a bug."""


def _of_the_system(error: OSError) -> int:
    """Report what the system refused; a closed stdout ends quietly."""
    if isinstance(error, BrokenPipeError) and (
        isinstance(error, ReaderGone) or stdout_reader_is_gone()
    ):
        return 0
    if error.errno in console.UNUSABLE_NAMES:
        shown = f"{error.filename}: " if error.filename else ""
        text = f"{shown}{error.strerror}; give another path"
        return _report(text, 2, "BadInput", error)
    if error.errno not in _NOT_OURS:
        raise error
    where = f"{error.filename}: " if error.filename else ""
    text = f"{where}{error.strerror}; check permissions, free space and limits (ulimit -a)"
    return _report(text, 4, "EnvironmentFailed", error)


def _occupy_standard_streams() -> None:
    """Open what was closed as /dev/null: else the next file that is opened would be stdout."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _terminate(number: int, frame: FrameType | None) -> None:
    """Make SIGTERM unwind like Ctrl-C, so that partial files are removed and children end."""
    raise KeyboardInterrupt


def _report(message: str, code: int, kind: str, error: BaseException | None) -> int:
    if error is not None and "--debug" in sys.argv and sys.stderr is not None:
        import traceback

        console.say("".join(traceback.format_exception(error)).rstrip(), lines=True)
    console.say(f"edgevid: {' '.join(message.split())}")
    if "--json" in sys.argv and not console.has_printed():
        document: dict[str, Any] = {"error": message, "kind": kind, "exit_code": code}
        with suppress(OSError):  # the error's line says enough
            console.emit(document, True, "")
    return code
