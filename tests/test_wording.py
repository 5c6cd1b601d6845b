"""Counts and lists of names as people say them."""

import pytest

from genmed.ground.wording import name_some, say_count


@pytest.mark.parametrize(
    ("count", "what", "told"),
    [
        (1, "image", "1 image"),
        (0, "image", "0 images"),
        (2000, "study", "2,000 studies"),
        (4, "process", "4 processes"),
        (1, "row without an image", "1 row without an image"),
        (3, "entry without a patient", "3 entries without a patient"),
    ],
)
def test_count_has_the_form_of_its_number(count: int, what: str, told: str) -> None:
    assert say_count(count, what) == told


def test_some_names_are_told_so_that_a_line_holds_them() -> None:
    assert name_some(["a", "b", "c"]) == "a, b, c"
    assert name_some(["a\nb", "c", "d", "e", "f"]) == "a\\nb, c, d and 2 more"
    assert name_some(["\udcff"]) == "\\udcff"
