"""What ``infersim`` offers: every public name exists, is documented and shows a runnable example."""

from __future__ import annotations

import inspect

import pytest

import infersim


def test_the_list_is_short() -> None:
    assert 15 <= len(infersim.__all__) <= 36
    assert len(set(infersim.__all__)) == len(infersim.__all__)


@pytest.mark.parametrize("name", [name for name in infersim.__all__ if name != "__version__"])
def test_every_name_has_a_doctest(name: str) -> None:
    value = getattr(infersim, name)
    text = inspect.getdoc(value) or ""
    if inspect.isclass(value):
        text += "".join(inspect.getdoc(member) or "" for _, member in inspect.getmembers(value, inspect.isfunction))
    assert ">>>" in text


def test_a_wrong_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'estimates'"):
        infersim.estimates  # noqa: B018


def test_dir_lists_the_public_names() -> None:
    assert set(dir(infersim)) == set(infersim.__all__)
