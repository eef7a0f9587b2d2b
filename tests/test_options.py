"""Options from YAML: taken as they can be meant, refused with key and value otherwise."""

from dataclasses import dataclass
from typing import Any

import pytest

from merger.errors import RecipeError, UnknownNameError
from recipes.options import fitted, overlay


@dataclass(frozen=True)
class Record:
    """A field of each kind."""

    steps: int = 1
    lr: float = 0.1
    levels: tuple[int, ...] = ()
    name: str | None = None
    quick: bool = False


@pytest.mark.parametrize(
    ("value", "hint", "want"),
    [
        ("1e-4", float, 1e-4),
        (3, float, 3.0),
        (2, tuple[int, ...], (2,)),
        ([1, [2, 3]], tuple[int, ...], (1, (2, 3))),
        (1, str | None, "1"),
        (None, str | None, None),
        ([1], list[int], [1]),
        ({"a": 1}, Any, {"a": 1}),
    ],
)
def test_a_value_is_taken_as_it_can_be_meant(value, hint, want):
    """YAML's numbers, texts and lists become what the annotation states."""
    got = fitted("key", value, hint)
    assert (got, type(got)) == (want, type(want))


@pytest.mark.parametrize(
    ("options", "law"),
    [
        ({"steps": 1.5}, "steps is 1.5, not a whole number"),
        ({"steps": True}, "steps is True, not a whole number"),
        ({"lr": "fast"}, "lr is 'fast', not a number"),
        ({"quick": 1}, "quick is 1, not true or false"),
        ({"name": [1]}, r"name is \[1\], not a text or nothing"),
    ],
)
def test_a_value_of_another_kind_is_refused(options, law):
    """The law names key, value and what it should be."""
    with pytest.raises(RecipeError, match=law):
        overlay(Record(), options)


def test_an_unknown_key_names_the_one_meant():
    """Keys are strict."""
    with pytest.raises(UnknownNameError, match="'stesp'"):
        overlay(Record(), {"stesp": 1})
