import subprocess
import sys

import pytest

from edgevid import registry
from edgevid.errors import BadInput, MissingExtra, PluginFailed


@pytest.mark.parametrize(
    ("kind", "name"), [(k, n) for k, rows in registry.TABLE.items() for n in rows]
)
def test_every_row_leads_somewhere(kind, name):
    assert registry.load(kind, name) is not None


@pytest.mark.parametrize("kind", registry.TABLE)
def test_rows_are_sorted(kind):
    assert list(registry.TABLE[kind]) == sorted(registry.TABLE[kind])


def test_another_package_adds_a_plug_in(plugin_package):
    plugin_package("toy", [("sink", "toy = toy:PLUGIN")])
    assert registry.load("sink", "toy") == 42
    assert "toy" in registry.names("sink")
    assert registry.has("sink", "toy")
    assert not registry.has("task", "toy")
    (listed,) = [one for one in registry.listing("sink") if one.name == "toy"]
    assert (listed.origin, listed.ignored) == ("toy 1.2", "")


def test_a_built_in_name_is_not_shadowed_and_is_listed_as_ignored(plugin_package):
    plugin_package("toy", [("task", "raw = toy:PLUGIN")])
    assert registry.load("task", "raw") != 42
    ours, theirs = [one for one in registry.listing("task") if one.name == "raw"]
    assert (ours.origin, ours.ignored) == ("edgevid", "")
    assert (theirs.origin, theirs.ignored) == ("toy 1.2", "edgevid has a built-in of this name")


def test_a_plug_in_that_fails_to_import_raises_its_error_with_its_packages_name(plugin_package):
    plugin_package("toy", [("sink", "toy = toy:PLUGIN")], "import surely_not_there\n")
    assert "toy" in registry.names("sink"), "it is never silently absent"
    with pytest.raises(PluginFailed, match=r"sink toy of the package toy 1.2 .*surely_not_there"):
        registry.load("sink", "toy")


def test_a_name_that_two_packages_provide_is_refused(plugin_package):
    plugin_package("one", [("sink", "toy = one:PLUGIN")])
    plugin_package("two", [("sink", "toy = two:PLUGIN")])
    with pytest.raises(BadInput, match=r"provided by one 1.2 and two 1.2; uninstall"):
        registry.load("sink", "toy")
    assert [x.ignored for x in registry.listing("sink") if x.name == "toy"] == [
        "several packages provide this name"
    ] * 2


def test_other_packages_cannot_replace_the_tools(plugin_package):
    plugin_package("toy", [("tool", "toy = toy:PLUGIN")])
    with pytest.raises(BadInput, match="unknown tool 'toy'"):
        registry.load("tool", "toy")


@pytest.mark.parametrize("name", ["os:system", "toy:PLUGIN", "../toy", "", "toy.sub"])
def test_a_name_is_looked_up_and_never_imported(plugin_package, name):
    plugin_package("toy", [], "raise SystemExit('imported')\n")
    with pytest.raises(BadInput, match="unknown task"):
        registry.load("task", name)


def test_built_in_names_need_no_entry_points():
    code = (
        "import sys; from edgevid import registry\n"
        "registry.load('task', 'raw'); registry.has('source', 'rtsp'); registry.builtin('sink')\n"
        "print('importlib.metadata' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_an_unknown_name_is_rejected_with_the_nearest():
    with pytest.raises(BadInput, match="did you mean tflite"):
        registry.load("runtime", "tflit")


def test_a_missing_package_is_rejected_with_its_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtra, match=r"pip install 'edgevid\[runner\]'"):
        registry.need("av", "runner")


def test_an_import_error_of_another_package_is_not_explained_away(monkeypatch, tmp_path):
    (tmp_path / "broken_backend.py").write_text("import surely_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="surely_not_there"):
        registry.need("broken_backend", "runner")
