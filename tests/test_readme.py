"""Every command in the README and the docs parses, and every link leads somewhere."""

import re
import shlex
from pathlib import Path

import click
import pytest

from edgevid.cli import COMMANDS, cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMAND = re.compile(r"^ {4}(?:\$ )?(edgevid [a-z].*)$", re.MULTILINE)
README_COMMANDS = sorted(set(COMMAND.findall(README)))
PAGES = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
ALL_COMMANDS = sorted({line for page in PAGES for line in COMMAND.findall(page.read_text())})


@pytest.mark.parametrize("line", sorted({*README_COMMANDS, *ALL_COMMANDS}))
def test_every_command_parses(line):
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
    shown = {line.split()[1] for line in README_COMMANDS}
    assert shown == set(COMMANDS)


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
def test_every_link_leads_to_a_file(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_make_demo_and_make_test_stand_first():
    code = re.findall(r"^    (\S.*)$|^```\w*\n(.*?)```", README, re.MULTILINE | re.DOTALL)
    first = " ".join(part for match in code[:1] for part in match)
    assert first.split("#")[0].split()[:2] == ["make", "demo"]
    assert "make test" in first


def test_the_walks_name_code_that_exists():
    text = (ROOT / "docs/explanation/architecture.md").read_text()
    sources = [p for top in ("edgevid", "converters") for p in (ROOT / top).rglob("*.py")]
    defined = {path.stem for path in sources} | {path.parent.name for path in sources}
    for path in sources:
        defined |= set(re.findall(r"^ *(?:def|class) (\w+)", path.read_text(), re.MULTILINE))
    for name in re.findall(r"`([A-Za-z_]\w*(?:\.\w+)*)`", text):
        if "_" in name or "." in name or name[0].isupper():
            missing = [part for part in name.removesuffix(".py").split(".") if part not in defined]
            assert not missing, f"{name}: there is no {missing[0]}"
