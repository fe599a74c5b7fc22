"""One picture is decoded to grey or RGB whatever its file holds, or one sentence says why not."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from picture_files import colours, cut_off, packed, png_of, png_with_text, saved, touched
from PIL import Image

from stackwise.tasks.images.reading.decode import BadPicture, decode, look


def test_rgb_is_read_as_it_is(tmp_path):
    array = colours()
    assert np.array_equal(decode(saved(tmp_path / "a.png", array)), array)
    assert np.array_equal(decode(packed(array)), array)
    assert np.array_equal(decode(array), array)


def test_grey_is_one_channel_or_three_equal_ones(tmp_path):
    grey = colours()[..., 0]
    path = saved(tmp_path / "a.png", grey)
    assert np.array_equal(decode(path, channels=1), grey[..., None])
    assert np.array_equal(decode(path), np.repeat(grey[..., None], 3, axis=2))
    assert look(path) == (32, 24, True)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_a_picture_upright(tmp_path, orientation):
    upright = colours()
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.swapaxes(0, 1), 6: upright.swapaxes(0, 1)[::-1],
        7: upright.swapaxes(0, 1)[::-1, ::-1], 8: upright.swapaxes(0, 1)[:, ::-1],
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("a.png", "a.jpg", "a.webp"):
        path = saved(tmp_path / name, np.ascontiguousarray(stored), exif=exif, quality=95)
        found = decode(path).astype(int)
        assert found.shape == upright.shape
        assert np.abs(found - upright).mean() < 6
    assert look(tmp_path / "a.jpg")[:2] == (32, 24)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_is_passed_over(tmp_path):
    path = saved(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert decode(path).shape == (24, 32, 3)


def test_a_palette_becomes_colours(tmp_path):
    array = np.zeros((8, 8, 3), np.uint8)
    array[:4] = 200, 30, 10
    path = tmp_path / "a.gif"
    Image.fromarray(array).quantize(4).save(path)
    assert np.array_equal(decode(path), array)


def test_transparency_is_laid_on_white_or_another_ground(tmp_path):
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[:2] = 10, 20, 30, 255
    path = saved(tmp_path / "a.png", clear)
    assert decode(path)[0, 0].tolist() == [10, 20, 30]
    assert decode(path)[3, 0].tolist() == [255, 255, 255]
    assert decode(path, ground=0)[3, 0].tolist() == [0, 0, 0]


def test_half_transparent_grey_is_mixed_with_the_ground(tmp_path):
    path = tmp_path / "a.png"
    Image.merge("LA", [Image.new("L", (4, 4), 100), Image.new("L", (4, 4), 51)]).save(path)
    assert decode(path, channels=1)[0, 0, 0] == 224  # a fifth of 100, four fifths of 255
    assert look(path).grey


def test_a_transparent_entry_of_a_palette_is_laid_on_the_ground(tmp_path):
    image = Image.new("P", (4, 4), 0)
    image.putpalette([0, 0, 0, 90, 90, 90])
    image.putpixel((0, 0), 1)
    image.save(tmp_path / "a.png", transparency=0)
    found = decode(tmp_path / "a.png")
    assert found[0, 0].tolist() == [90, 90, 90] and found[3, 3].tolist() == [255, 255, 255]


def test_cmyk_becomes_rgb(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(path)
    assert np.abs(decode(path)[0, 0].astype(int) - [255, 0, 0]).max() < 4


def test_sixteen_bits_are_scaled_by_the_range_of_their_type(tmp_path):
    values = np.array([[0, 257 * 128, 65535]], np.uint16)
    for name in ("a.png", "a.tif"):
        path = saved(tmp_path / name, values)
        assert decode(path, channels=1).ravel().tolist() == [0, 128, 255]
        assert look(path).grey


def test_whole_numbers_of_sixteen_bits_in_thirty_two_are_scaled_alike(tmp_path):
    path = saved(tmp_path / "a.tif", np.array([[0, 257 * 7, 65535]], np.int32))
    assert decode(path, channels=1).ravel().tolist() == [0, 7, 255]


def test_floats_are_scaled_by_their_own_range(tmp_path):
    path = saved(tmp_path / "a.tif", np.array([[-2.0, 0.0, 2.0]], np.float32))
    assert decode(path, channels=1).ravel().tolist() == [0, 128, 255]
    even = saved(tmp_path / "b.tif", np.full((2, 2), 7, np.float32))
    assert not decode(even).any()
    broken = saved(tmp_path / "c.tif", np.array([[0, np.nan]], np.float32))
    with pytest.raises(BadPicture, match=r"c\.tif cannot be read: it holds values that are no num"):
        decode(broken)


def test_one_bit_is_black_and_white(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[True, False]])).save(path)
    assert decode(path, channels=1).ravel().tolist() == [255, 0]


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif"])
def test_of_an_animation_the_first_frame_counts(tmp_path, name):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if name == "a.webp" else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    assert decode(tmp_path / name)[0, 0].tolist() == [255, 0, 0]


def test_a_large_jpeg_is_decoded_small_and_looks_the_same(tmp_path):
    path = saved(tmp_path / "a.jpg", colours(height=480, width=640), quality=95)
    small = decode(path, size=(32, 32)).astype(int)
    with Image.open(path) as image:
        whole = image.resize((32, 32), Image.Resampling.BICUBIC, box=(80, 0, 560, 480))
    assert np.abs(small - np.asarray(whole)).max() <= 4


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.gif", "a.tif", "a.bmp"])
def test_what_is_cut_off_is_named(tmp_path, name):
    with pytest.raises(BadPicture, match=rf"{name} (cannot be read|is no picture)"):
        decode(cut_off(tmp_path / name))


def test_what_is_no_picture_is_named(tmp_path):
    with pytest.raises(BadPicture, match=r"empty\.jpg is empty"):
        decode(touched(tmp_path / "empty.jpg"))
    with pytest.raises(BadPicture, match="picture 7 is empty"):
        decode(b"", name="picture 7")
    with pytest.raises(BadPicture, match=r"text\.jpg is no picture of a known kind"):
        decode(touched(tmp_path / "text.jpg", b"<html>404</html>"))
    with pytest.raises(BadPicture, match=r"gone\.jpg does not exist"):
        decode(tmp_path / "gone.jpg")


def test_postscript_is_never_run(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(colours()).save(path, format="EPS")
    with pytest.raises(BadPicture, match="no picture of a known kind"):
        decode(path)


def test_a_header_that_promises_too_much_is_refused_before_it_is_decoded(tmp_path):
    bomb = png_of(tmp_path / "bomb.png", 20_000, 20_000)
    with pytest.raises(BadPicture, match=r"bomb\.png has more than the 89,478,485 pixels"):
        decode(bomb)
    large = png_of(tmp_path / "large.png", 9_000, 9_000)
    with pytest.raises(BadPicture, match="9,000 x 9,000 pixels, more than the 1,000,000"):
        look(large, most_pixels=1_000_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(BadPicture, match="more than the 89,478,485 pixels"):
            decode(png_of(tmp_path / "warned.png", 10_000, 10_000))


def test_a_long_thin_picture_takes_no_room_when_it_is_brought_to_a_size(tmp_path):
    thin = saved(tmp_path / "a.png", np.zeros((1, 60_000), np.uint8))
    assert decode(thin, size=(64, 64)).shape == (64, 64, 3)


def test_a_bomb_of_text_in_a_png_is_refused(tmp_path):
    path = png_with_text(tmp_path / "a.png", 1 << 24)
    assert path.stat().st_size < 50_000
    with pytest.raises(BadPicture, match=r"a\.png cannot be read"):
        decode(path)


def test_every_failure_is_one_sentence(tmp_path):
    whole = packed(colours())
    generator = np.random.default_rng(0)
    for _ in range(200):
        broken = bytearray(whole)
        for place in generator.integers(0, len(broken), 5):
            broken[place] = generator.integers(256)
        try:
            decode(bytes(broken), name="x")
        except BadPicture as error:
            assert str(error).startswith("x ") and "\n" not in str(error)


def test_a_path_with_any_name_is_read(tmp_path: Path):
    for name in ("ÄÖ 猫 .PNG", "a.JPEG", "no_ending"):
        path = tmp_path / name
        Image.fromarray(colours()).save(path, format="PNG")
        assert decode(path).shape == (24, 32, 3)
