import sys

import pytest

from edgevid import registry
from edgevid.errors import BadInput, MissingExtra


@pytest.mark.parametrize(
    ("kind", "name"), [(k, n) for k, rows in registry.TABLE.items() for n in rows]
)
def test_every_row_leads_somewhere(kind, name):
    assert registry.load(kind, name) is not None


@pytest.mark.parametrize("kind", registry.TABLE)
def test_rows_are_sorted(kind):
    assert list(registry.TABLE[kind]) == sorted(registry.TABLE[kind])


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(BadInput, match="did you mean tflite"):
        registry.load("runtime", "tflit")


def test_a_missing_package_is_answered_with_its_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtra, match=r"pip install 'edgevid\[runner\]'"):
        registry.need("av", "runner")


def test_an_import_error_of_another_package_is_not_explained_away(monkeypatch, tmp_path):
    (tmp_path / "broken_backend.py").write_text("import surely_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="surely_not_there"):
        registry.need("broken_backend", "runner")
