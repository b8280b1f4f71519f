"""Sizes of patches."""

import pytest

from blindsr_env.patch import fits, scaled, sides


def test_a_number_is_the_side_of_a_square():
    assert sides(7) == (7, 7) and sides((3, 5)) == sides([3, 5]) == (3, 5)
    assert scaled((3, 5), 4) == (12, 20)


@pytest.mark.parametrize("value", [0, -1, 6.5, True, None, "64", (3,), (3, 5, 7), (3, 0), (3, 5.0), (3, True), ()])
def test_what_is_no_size(value):
    with pytest.raises(ValueError, match="patch_size must be a whole number above 0, or two of them"):
        sides(value)


def test_photos_hold_crops_upright_or_turned():
    assert fits((3, 5), 3, 5) and fits((3, 5), 5, 3) and fits((5, 3), 3, 9)
    assert not fits((3, 5), 4, 4) and not fits((3, 5), 2, 9)
