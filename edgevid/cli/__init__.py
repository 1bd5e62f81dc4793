"""The command line: parses and prints, no logic; one command a file, loaded when it is called.

Exit codes: 0 done; 1 a gate said no; 2 wrong use or bad input; 3 inconclusive; 4 the surroundings
failed; 130 interrupted.
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

# name -> (module, one line of help); the help stands here so that listing loads no command
COMMANDS = {
    "bench": ("edgevid.cli.bench", "Honest numbers for every artifact of a bundle."),
    "convert": ("edgevid.cli.convert", "Lower a model to TFLite and OpenVINO, and prove it."),
    "dataset": ("edgevid.cli.dataset", "Make and check data."),
    "demo": ("edgevid.cli.demo", "The whole journey on this machine, from nothing to a report."),
    "doctor": ("edgevid.cli.doctor", "What this machine has, and what to do about each problem."),
    "evaluate": ("edgevid.cli.evaluate", "The task metric of a run, or of each artifact."),
    "fleet": ("edgevid.cli.fleet", "Many devices: what each one serves, and how well."),
    "flash": ("edgevid.cli.flash", "Runner and bundles onto a device, or the device as it was."),
    "inspect": ("edgevid.cli.inspect", "A bundle's contract and evidence, for people."),
    "keys": ("edgevid.cli.keys", "The key that signs what is flashed."),
    "run": ("edgevid.cli.run", "Answer a video, step by step."),
    "targets": ("edgevid.cli.targets", "Kinds of device that edgevid knows."),
    "train": ("edgevid.cli.train", "Fit a model to labelled clips."),
    "verify": ("edgevid.cli.verify", "Replay a bundle's golden trajectory on this machine."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command's name."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command ``cmd_name``."""
        if cmd_name not in COMMANDS:
            return None
        module = COMMANDS[cmd_name][0]
        try:
            command: click.Command = import_module(module).command
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise BadInput(f"edgevid {cmd_name} is not on a device; run it on a computer") from None
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one was meant."""
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
    """Run the command line; what goes wrong becomes one line and an exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        outcome = cli.main(standalone_mode=False)
        code = outcome if isinstance(outcome, int) else 0
        sys.stdout.flush()
    except EdgevidError as error:
        code = _report(str(error), error.exit_code, type(error).__name__, error)
    except click.ClickException as error:
        code = _report(error.format_message(), 2, "BadInput", error)
    except (click.Abort, KeyboardInterrupt):
        code = _report("interrupted; nothing was left half-written", 130, "Interrupted", None)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away, which is its good right
        code = 0
    sys.exit(code)


def _terminate(number: int, frame: FrameType | None) -> None:
    """Let SIGTERM unwind like Ctrl-C, so that parts are removed and children ended."""
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
