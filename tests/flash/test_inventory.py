"""The inventory: what it may say, what is refused with its line, and what a word means."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevid.errors import BadInput
from edgevid.flash.inventory import (
    DeviceEntry,
    inventory_file,
    read_inventory,
    resolve,
    resolve_all,
)

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "devices.toml"


def written(tmp_path, text):
    file = tmp_path / "devices.toml"
    file.write_text(text)
    return read_inventory(file)


def refusal(tmp_path, text):
    with pytest.raises(BadInput) as caught:
        written(tmp_path, text)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(str(tmp_path / "devices.toml"))


def test_the_example_of_the_documents_is_read_and_shows_every_key():
    one, two = read_inventory(EXAMPLE)
    assert one == DeviceEntry(
        "gate-1", "10.0.0.21", None, "pi", "raspberry-pi-5", ("gates", "north")
    )
    assert (two.port, two.key, two.root) == (
        2222,
        Path("~/.ssh/gates").expanduser(),
        "/srv/edgevid",
    )
    shown = {line.split(" = ")[0] for line in EXAMPLE.read_text().splitlines() if " = " in line}
    assert shown == set(DeviceEntry.__dataclass_fields__)


def test_without_a_file_there_are_no_devices(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert inventory_file() == tmp_path / "edgevid" / "devices.toml"
    assert read_inventory() == ()
    inventory_file().parent.mkdir()
    inventory_file().write_text('[[device]]\nname = "a"\nhost = "b"\n')
    assert read_inventory() == (DeviceEntry("a", "b"),)


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16"])
def test_an_inventory_is_read_as_editors_save_it(tmp_path, codec):
    file = tmp_path / "devices.toml"
    file.write_bytes('[[device]]\r\nname = "a"\r\nhost = "b"\r\n'.encode(codec))
    assert read_inventory(file) == (DeviceEntry("a", "b"),)


def test_a_key_is_relative_to_the_file(tmp_path):
    (device,) = written(tmp_path, '[[device]]\nname = "a"\nhost = "b"\nkey = "keys/a"\n')
    assert device.key == tmp_path / "keys" / "a"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("targets = 22", ":4: device 'a' has an unknown key 'targets'; did you mean 'target'?"),
        ("port = 0", ":4: device 'a': port must be a port from 1 to 65535, not 0"),
        ('port = "22"', ":4: device 'a': port must be a port from 1 to 65535"),
        ('tags = "north"', ":4: device 'a': tags must be a list of names"),
        ('tags = ["nor th"]', ":4: device 'a': tags must be letters"),
        ('user = "-oProxyCommand=x"', ":4: device 'a': user must be a user's name"),
        ('target = "../x"', ":4: device 'a': target must be letters"),
        ('root = "edgevid"', ":4: device 'a': root must be a folder from the root on"),
        ('password = "secret"', ":4: device 'a' has an unknown key 'password'"),
    ],
)
def test_a_mistake_is_reported_with_its_line(tmp_path, line, said):
    message = refusal(tmp_path, f'[[device]]\nname = "a"\nhost = "b"\n{line}\n')
    assert message.startswith(said)
    assert "secret" not in message


@pytest.mark.parametrize(
    "host", ["-oProxyCommand=touch x", "pi@b", "b:22", "b; reboot", "$(reboot)", "", "a b"]
)
def test_a_host_is_never_an_option_nor_syntax(tmp_path, host):
    said = refusal(tmp_path, f'[[device]]\nname = "a"\nhost = "{host}"\n')
    assert said.startswith(":3: device 'a': host must be a name or an address")


def test_names_are_unique_and_differ_from_tags(tmp_path):
    one, two = (
        '[[device]]\nname = "{}"\nhost = "b"\ntags = ["{}"]\n'.format(*n) for n in ("ax", "bx")
    )
    assert len(written(tmp_path, one + two)) == 2
    assert "device 'a' is already defined on line 1" in refusal(tmp_path, one + one)
    assert refusal(tmp_path, one + two.replace("x", "a")).startswith(
        ":8: device 'b': the tag 'a' is also the name of a device"
    )


INVENTORY = (
    DeviceEntry("gate-1", "10.0.0.1", tags=("gates", "north")),
    DeviceEntry("gate-2", "10.0.0.2", tags=("gates",)),
    DeviceEntry("roof", "10.0.0.3", tags=("north",)),
)


def names(devices):
    return [device.name for device in devices]


def test_a_word_is_a_name_or_a_tag():
    assert names(resolve("gate-2", INVENTORY)) == ["gate-2"]
    assert names(resolve("north", INVENTORY)) == ["gate-1", "roof"]
    assert names(resolve_all(["roof", "gates", "north"], INVENTORY)) == ["roof", "gate-1", "gate-2"]


@pytest.mark.parametrize(
    ("word", "user", "host", "port"),
    [
        ("pi@10.0.0.9", "pi", "10.0.0.9", None),
        ("pi@10.0.0.9:2222", "pi", "10.0.0.9", 2222),
        ("camera.local", None, "camera.local", None),
        ("camera:22", None, "camera", 22),
        ("pi@camera", "pi", "camera", None),
        ("pi@[fe80::1%eth0]:22", "pi", "fe80::1%eth0", 22),
        ("[::1]", None, "::1", None),
    ],
)
def test_a_word_is_an_address(word, user, host, port):
    assert resolve(word, INVENTORY) == [DeviceEntry(word, host, port, user)]


@pytest.mark.parametrize(
    "word",
    [
        "@b",
        "a@",
        "pi@b:99999",
        "pi@b:0",
        "pi@-oProxyCommand=x",
        "-F.x",
        "a@b@c",
        "pi@b;reboot",
    ],
)
def test_an_invalid_address_is_refused(word):
    with pytest.raises(BadInput, match=r"is not an address.*write user@host"):
        resolve(word, INVENTORY)


def test_an_ipv6_address_without_brackets_is_refused_with_its_right_form():
    with pytest.raises(BadInput, match=r"is not an address.*write .* in brackets: \[::1\]"):
        resolve("::1", INVENTORY)


def test_a_typing_error_is_not_taken_for_a_host():
    with pytest.raises(BadInput, match=r"did you mean gate-1\?.*write user@host:port"):
        resolve("gat-1", INVENTORY)
    with pytest.raises(BadInput, match="no device 'gate'; write user@host:port, or add it to"):
        resolve("gate", ())
