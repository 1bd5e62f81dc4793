"""Options and commands that messages and documents name exist, so that advice can be followed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click

from edgevid.cli import COMMANDS, cli

ROOT = Path(__file__).parents[2]
PACKAGES = (ROOT / "edgevid", ROOT / "converters/edgevid_converters")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*[a-z0-9]")
NAMED = re.compile(r"\bedgevid ([a-z]+)((?: (?!or\b|and\b)[^ ;,()]+)*)")
"""A command with its arguments, as in a remedy."""
COMMAND = re.compile(r"(?:with|run|use|see|it): edgevid ([a-z]+)")
OF_OTHERS = {
    "edgevid/flash/agent/": "systemctl, and the agent's own",
    "edgevid/flash/device_facts.py": "pip",
    "edgevid/flash/forced_command.py": "the agent's own",
    "edgevid/flash/installer.py": "the agent's own",
    "edgevid/flash/plugin_wheels.py": "pip",
    "edgevid/flash/resolve_pip.py": "pip",
    "edgevid/flash/resolve_uv.py": "uv",
    "edgevid/flash/target_lock.py": "its own",
    "edgevid/doctor/software.py": "pip",
    "edgevid/media/picamera.py": "rpicam-vid",
    "converters/edgevid_converters/lowering/edgetpu.py": "edgetpu_compiler",
}
"""Files that have options of other programs, and of which."""


@cache
def options() -> frozenset[str]:
    found = {"--help", "--version"}

    def collect(command: click.Command) -> None:
        for parameter in command.params:
            found.update(parameter.opts, parameter.secondary_opts)
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                collect(command.get_command(context, name))

    from edgevid.cli.host import bench_compare, bench_report

    for command in (cli, bench_compare.command, bench_report.command):
        collect(command)
    return frozenset(found)


def texts() -> Iterator[tuple[str, str]]:
    """Every text in the code but docstrings, with its file."""
    for package in PACKAGES:
        for file in sorted(package.rglob("*.py")):
            tree = ast.parse(file.read_text("utf-8"))
            plain = {
                id(node.value)
                for node in ast.walk(tree)
                if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            }
            for node in ast.walk(tree):
                value = node.value if isinstance(node, ast.Constant) else None
                if isinstance(value, str) and id(node) not in plain:
                    yield file.relative_to(ROOT).as_posix(), value


def test_every_option_in_a_message_exists():
    unknown = {
        (file, option)
        for file, text in texts()
        for option in OPTION.findall(text)
        if option not in options() and not file.startswith(tuple(OF_OTHERS))
    }
    assert unknown == set()


def test_every_command_in_a_message_exists():
    unknown = {
        (file, found[0])
        for file, text in texts()
        for found in COMMAND.finditer(text)
        if found[1] not in COMMANDS
    }
    assert unknown == set()


def test_an_option_of_a_command_in_a_message_is_one_of_its_own():
    from edgevid.cli.host import bench_compare, bench_report

    beside = {"compare": bench_compare.command, "report": bench_report.command}
    unknown = set()
    for file, text in texts():
        for name, arguments in NAMED.findall(text):
            if name not in COMMANDS:
                continue
            command = cli.get_command(click.Context(cli), name)
            own = {opt for one in command.params for opt in (*one.opts, *one.secondary_opts)}
            for word in arguments.split():
                inner = beside.get(word) if name == "bench" else None
                if isinstance(command, click.Group):
                    inner = command.get_command(click.Context(command), word)
                if inner is not None:
                    command = inner
                    own |= {o for one in inner.params for o in (*one.opts, *one.secondary_opts)}
            unknown |= {
                (file, name, option)
                for option in OPTION.findall(arguments)
                if option not in own | {"--help"}
            }
    assert unknown == set()
