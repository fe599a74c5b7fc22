"""Mixed sizes are brought to one by a rule that is said."""

import numpy as np
import pytest
from PIL import Image

from stackwise.errors import DataError
from stackwise.tasks.images.reading.sizes import asked_size, common_size, fitted


def test_one_small_size_stays():
    assert common_size([(28, 20)] * 3) == ((28, 20), "all pictures are 28 x 20 pixels")


def test_one_large_size_becomes_a_square_of_64():
    size, note = common_size([(300, 400)] * 3)
    assert size == (64, 64)
    assert "all pictures are 300 x 400 pixels" in note and "--image-size" in note


def test_mixed_sizes_become_the_median_of_their_short_sides():
    size, note = common_size([(45, 90), (50, 30), (200, 47)])
    assert size == (40, 40)
    assert "from 50 x 30 to 200 x 47" in note
    assert common_size([(3, 9), (4, 4)])[0] == (8, 8)
    assert common_size([(500, 900), (700, 700)])[0] == (64, 64)


def test_the_middle_is_kept_and_nothing_is_stretched():
    array = np.zeros((30, 90), np.uint8)
    array[:, 30:60] = 200
    assert np.asarray(fitted(Image.fromarray(array), (30, 30))).min() == 200
    tall = np.asarray(fitted(Image.fromarray(array.T.copy()), (10, 10)))
    assert tall.min() >= 180  # a pixel at the edge sees its neighbours


def test_a_picture_of_the_size_is_left_alone():
    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    assert fitted(image, (3, 4)) is image


def test_a_smaller_picture_is_enlarged():
    assert fitted(Image.new("RGB", (3, 5), "red"), (8, 8)).getpixel((4, 4)) == (255, 0, 0)


def test_fine_stripes_become_grey_and_not_a_pattern():
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    small = np.asarray(fitted(Image.fromarray(stripes), (8, 8)))
    assert np.abs(small.astype(int) - 127).max() < 8


def test_a_size_is_a_side_or_two():
    assert asked_size(32) == (32, 32) and asked_size((16, 24)) == (16, 24)
    assert asked_size([32]) == (32, 32)  # as a command line gives one value of a list
    with pytest.raises(DataError, match="at least 1 pixel"):
        asked_size(0)
