"""Finding laws by name and by file."""

import pytest

from scalestop.errors import InputError
from scalestop.laws import DEFAULT_LAW, get_law, list_laws


def test_names():
    names = list_laws()
    assert names[:8] == [
        "besiroglu",
        "chinchilla",
        "chinchilla-1",
        "chinchilla-2",
        "kaplan",
        "kaplan-presentation",
        "muennighoff",
        "deepseek",
    ]
    assert len(set(names)) == len(names)
    assert [get_law(name).name for name in names] == names


def test_the_default():
    assert get_law() is get_law("besiroglu")
    assert DEFAULT_LAW == "besiroglu"


def test_a_law_is_returned_as_it_is():
    law = get_law("muennighoff").with_unique_tokens(1e9)
    assert get_law(law) is law


def test_a_file(tmp_path, monkeypatch):
    path = get_law("kaplan").save(tmp_path / "mine.json")
    assert get_law(path) == get_law(str(path)) == get_law("kaplan")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert get_law("~/mine.json") == get_law("kaplan")


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(InputError) as error:
        get_law("chinchila")
    assert str(error.value) == (
        f"law: no law and no file is called 'chinchila'. Did you mean 'chinchilla'? Built-in: {', '.join(list_laws())}."
    )


def test_nothing_near():
    with pytest.raises(InputError) as error:
        get_law("/no/such/file.json")
    assert str(error.value) == (
        f"law: no law and no file is called '/no/such/file.json'. Built-in: {', '.join(list_laws())}."
    )


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b""])
def test_a_file_that_is_no_json(content, tmp_path):
    path = tmp_path / "law.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"law.json is not JSON: "):
        get_law(path)


def test_a_file_that_is_no_law_is_named(tmp_path):
    path = tmp_path / "law.json"
    path.write_text('{"schema": "other"}')
    with pytest.raises(InputError) as error:
        get_law(path)
    assert str(error.value) == f"{path}: schema: expected 'scalestop.law/1' or 'scalestop.law/2', got 'other'"


def test_neither_name_nor_path():
    with pytest.raises(InputError, match=r"^law: expected a name, a path or a ScalingLaw; got int$"):
        get_law(5)
