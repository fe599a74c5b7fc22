"""Decode one picture to 8-bit grey or RGB, whatever its file holds.

    orientation     as EXIF says
    transparency    laid on a ground, white by default
    1 bit           black is 0, white is 255
    16 bit          by the type's range: 0..65535 becomes 0..255
    32 bit, float   by the picture's own range: its least value becomes 0, its greatest 255
                    (whole numbers within 0..65535 count as 16 bit); its absolute scale is lost
    animated        the first frame
    palette, CMYK   as RGB

A header says how many pixels there are before any is decoded, and too many are refused. Only
formats of pixels are opened: pillow would run Ghostscript on a PostScript file.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from stackwise.errors import DataError
from stackwise.tasks.images.reading.sizes import Size, fitted

Content = Path | bytes | np.ndarray
"""A picture that is not decoded yet: a file, its bytes, or (H, W, C) uint8."""
Contents = Sequence[Content] | np.ndarray
"""Many of them: a list, a column that is unpacked row by row, or an array (n, H, W, C) uint8."""
Channels = Literal[1, 3]
MODES: dict[int, str] = {1: "L", 3: "RGB"}
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
MOST_PIXELS = 89_478_485
"""pillow's own bound, 256 MiB of RGB."""
GREY = ("1", "L", "LA", "La", "I", "F")
ORIENTATION = 0x0112
TURNING = {"exif", "xmp", "Raw profile type exif", "XML:com.adobe.xmp"}
"""Where a file may say how it is turned; a JPEG without these says nothing."""


class BadPicture(DataError):
    """A file that cannot be read as a picture; the sentence names it and says why."""


class Header(NamedTuple):
    """What a picture says of itself before it is decoded, turned upright."""

    width: int
    height: int
    grey: bool


def decode(
    content: Content,
    *,
    channels: Channels = 3,
    size: Size | None = None,
    name: str | None = None,
    ground: int = 255,
    most_pixels: int = MOST_PIXELS,
) -> np.ndarray:
    """Decode a picture.

    Args:
        channels: 1 for grey, 3 for RGB.
        size: (H, W) that it is brought to (`sizes.fitted`); its own without. A JPEG that is more
            than twice as large is decoded at a half, a quarter or an eighth of its size (pillow's
            `draft`), several times faster and a rounding error away.
        name: what it is called in an error; the file's path by default.
        ground: 0 to 255, the grey on which transparency is laid; 255 is white.
        most_pixels: a picture with more is refused.

    Returns:
        (H, W, channels) uint8.

    Raises:
        BadPicture: it is missing, empty, no picture, cut off, damaged or too large.
    """
    with _opened(content, name, most_pixels) as image:
        if size is not None and image.format == "JPEG":
            image.draft(MODES[channels], (2 * size[1], 2 * size[0]))
        image.load()
        if image.format != "JPEG" or TURNING & image.info.keys():
            with contextlib.suppress(Exception):  # damaged EXIF beside a sound picture
                ImageOps.exif_transpose(image, in_place=True)
        plain = _in_mode(_eight_bits(image, ground), MODES[channels])
        if size is not None:
            plain = fitted(plain, size)
        return np.asarray(plain).reshape(plain.height, plain.width, channels)


def look(content: Content, *, name: str | None = None, most_pixels: int = MOST_PIXELS) -> Header:
    """Read a picture's header, which takes no time and no memory for its pixels.

    It is grey where its kind has no colours; colours that are all grey are not looked for.

    Raises:
        BadPicture: it is missing, empty, no picture or too large.
    """
    with _opened(content, name, most_pixels) as image:
        grey = image.mode in GREY or image.mode.startswith("I;16")
        width, height = image.size
        if image.format in ("JPEG", "MPO"):  # a PNG is decoded before it tells its EXIF
            with contextlib.suppress(Exception):
                if image.getexif().get(ORIENTATION, 1) >= 5:
                    width, height = height, width
        return Header(width, height, grey)


@contextlib.contextmanager
def _opened(content: Content, name: str | None, most_pixels: int) -> Iterator[Image.Image]:
    """The picture with its header read; whatever goes wrong inside is a `BadPicture`."""
    called = name or (str(content) if isinstance(content, Path) else "a picture")
    try:
        with _image(content) as image:
            if image.width * image.height > most_pixels:
                raise BadPicture(
                    f"{called} has {image.width:,} x {image.height:,} pixels, more than the "
                    f"{most_pixels:,} that are read"
                )
            yield image
    except BadPicture:
        raise
    except FileNotFoundError:
        raise BadPicture(f"{called} does not exist") from None
    except UnidentifiedImageError:
        reason = "is no picture of a known kind" if _has_bytes(content) else "is empty"
        raise BadPicture(f"{called} {reason}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadPicture(
            f"{called} has more than the {most_pixels:,} pixels that are read"
        ) from None
    except Exception as error:  # pillow's readers raise nearly every kind on damaged files
        reason = f"{error}".partition("\n")[0] or type(error).__name__
        raise BadPicture(f"{called} cannot be read: {reason}") from error


def _image(content: Content) -> Image.Image:
    if isinstance(content, np.ndarray):
        return Image.fromarray(content[..., 0] if content.shape[-1] == 1 else content)
    if isinstance(content, Path):
        return Image.open(content, formats=FORMATS)
    import io

    return Image.open(io.BytesIO(content), formats=FORMATS)


def _has_bytes(content: Content) -> bool:
    return content.stat().st_size > 0 if isinstance(content, Path) else len(content) > 0


def _eight_bits(image: Image.Image, ground: int) -> Image.Image:
    """The picture in grey ("L") or RGB, opaque."""
    if image.mode.startswith("I;16"):
        return _scaled(np.asarray(image), 0, 65535)
    if image.mode in ("I", "F"):
        values = np.asarray(image)
        low, high = float(values.min()), float(values.max())
        if not np.isfinite(low + high):
            raise ValueError("it holds values that are no numbers")
        if image.mode == "I" and low >= 0 and high <= 65535:
            low, high = 0, 65535
        return _scaled(values, low, high)
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        under = Image.new("RGBA", image.size, (ground, ground, ground, 255))
        under.alpha_composite(clear)
        return under.convert("L" if image.mode in GREY else "RGB")
    return _in_mode(image, "L" if image.mode in GREY else "RGB")


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Itself where it has that mode: pillow's `convert` would copy it."""
    return image if image.mode == mode else image.convert(mode)


def _scaled(values: np.ndarray, low: float, high: float) -> Image.Image:
    """low..high as 0..255; all 0 where the two are one."""
    scale = 255 / (high - low) if high > low else 0.0
    return Image.fromarray(((values - np.float32(low)) * scale).round().astype(np.uint8))
