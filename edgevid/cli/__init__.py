"""The command line: parses and prints, no logic; one module per command, imported when called.

Exit codes: 0 done; 1 a check failed; 2 usage error or bad input; 3 inconclusive; 4 environment
error; 130 interrupted.
"""

from __future__ import annotations

import json
import signal
import sys
from importlib import import_module
from types import FrameType
from typing import Any

import click

from edgevid import __version__
from edgevid.errors import BadInput, EdgevidError

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
    signal.signal(signal.SIGTERM, _terminate)
    try:
        outcome = cli.main(standalone_mode=False)
        code = outcome if isinstance(outcome, int) else 0
        sys.stdout.flush()
    except EdgevidError as error:
        code = _report(str(error), error.exit_code, type(error).__name__, error)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        code = 2
    except click.ClickException as error:
        code = _report(error.format_message(), 2, "BadInput", error)
    except (click.Abort, KeyboardInterrupt):
        code = _report("interrupted; nothing was left half-written", 130, "Interrupted", None)
    except BrokenPipeError:
        sys.stderr.close()  # whoever reads our output closed the pipe: not an error
        code = 0
    sys.exit(code)


def _terminate(number: int, frame: FrameType | None) -> None:
    """Make SIGTERM unwind like Ctrl-C, so that partial files are removed and children end."""
    raise KeyboardInterrupt


def _report(message: str, code: int, kind: str, error: BaseException | None) -> int:
    if error is not None and "--debug" in sys.argv:
        import traceback

        traceback.print_exception(error)
    print(f"edgevid: {' '.join(message.split())}", file=sys.stderr)
    if "--json" in sys.argv:
        document: dict[str, Any] = {"error": message, "kind": kind, "exit_code": code}
        print(json.dumps(document))
    return code
