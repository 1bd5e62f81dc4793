"""The README's commands are commands: each one parses, and what it names is there."""

import re
import shlex
from pathlib import Path

import click
import pytest

from edgevid.cli import COMMANDS, cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMAND_LINES = sorted(set(re.findall(r"^ *(?:\$ )?(edgevid [a-z].*)$", README, re.MULTILINE)))


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_every_command_of_the_readme_parses(line):
    words = shlex.split(line, comments=True)[1:]
    command: click.Command = cli
    context = click.Context(cli, info_name="edgevid")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"{line}: there is no {name}"
        command = found
        context = click.Context(command, parent=context, info_name=name)
    if "--help" not in words:
        command.make_context(command.name, words, parent=context.parent)


def test_every_command_is_shown():
    shown = {line.split()[1] for line in COMMAND_LINES}
    assert shown == set(COMMANDS)


def test_what_the_readme_links_to_is_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_make_demo_and_make_test_stand_first():
    code = re.findall(r"^    (\S.*)$|^```\w*\n(.*?)```", README, re.MULTILINE | re.DOTALL)
    first = " ".join(part for match in code[:1] for part in match)
    assert first.split("#")[0].split()[:2] == ["make", "demo"]
    assert "make test" in first
