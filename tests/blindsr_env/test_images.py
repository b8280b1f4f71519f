"""Photos: every kind of file that people have, the built-in set, sources, and crops from the pool against slicing."""

import io
import struct
import zlib

import numpy as np
import pytest

from blindsr_env import images
from blindsr_env.images import ImageError, Photo

Image = pytest.importorskip("PIL.Image")
ImageOps = pytest.importorskip("PIL.ImageOps")

HEIGHT, WIDTH = 40, 60
ROW, COLUMN = np.mgrid[:HEIGHT, :WIDTH]
RGB = np.stack([COLUMN * 4, ROW * 6, (COLUMN + ROW) * 2], axis=-1).astype(np.uint8)
ALPHA = np.dstack([RGB, COLUMN * 4]).astype(np.uint8)


def on_white(image):
    """What a viewer with a white page shows, by Pillow."""
    image = ImageOps.exif_transpose(image).convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))


def png16(pixels):
    """A PNG of 16-bit samples `(H, W, C)`, written by hand: Pillow writes none in colour."""
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data)) for tag, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def saved(path, image, **options):
    image.save(path, **options)
    return on_white(Image.open(path))


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "tiff", "webp", "PNG"])
def test_colour(tmp_path, suffix):
    path = tmp_path / f"p.{suffix}"
    Image.fromarray(RGB).save(path, **({"lossless": True} if suffix == "webp" else {}))
    pixels = images.read(path)
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous and np.array_equal(pixels, RGB)


@pytest.mark.parametrize("mode", ["L", "1", "P"])
@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_grey_and_palette(tmp_path, mode, suffix):
    path = tmp_path / f"p.{suffix}"
    expected = saved(path, Image.fromarray(RGB).convert(mode))
    assert np.array_equal(images.read(path), expected)


@pytest.mark.parametrize(("mode", "suffix"), [("RGBA", "png"), ("RGBA", "webp"), ("RGBA", "tif"), ("LA", "png")])
def test_transparency_is_laid_on_white(tmp_path, mode, suffix):
    path = tmp_path / f"p.{suffix}"
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    expected = saved(path, Image.fromarray(ALPHA).convert(mode), **options)
    assert np.abs(images.read(path).astype(int) - expected).max() <= 1
    assert (images.read(path)[:, 0] == 255).all()


def test_transparent_palette(tmp_path):
    path = tmp_path / "p.png"
    palette = Image.fromarray(RGB).quantize(32)
    expected = saved(path, palette, transparency=palette.getpixel((30, 20)))
    pixels = images.read(path)
    assert np.array_equal(pixels, expected) and (pixels[20, 30] == 255).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits(tmp_path, channels):
    path = tmp_path / "p.png"
    eight = {1: RGB[..., :1], 2: ALPHA[..., [0, 3]], 3: RGB, 4: ALPHA}[channels]
    shift = eight % 3 * 128.0 - 128  # -128, 0, 128: all round to the same level
    nudge = np.where((eight > 0) & (eight < 255), shift, 0).astype(int)
    path.write_bytes(png16(eight.astype(int) * 257 + nudge))
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    expected = on_white(Image.fromarray(eight[..., 0] if channels == 1 else eight, mode))
    assert np.abs(images.read(path).astype(int) - expected).max() <= (1 if channels in (2, 4) else 0)


def test_sixteen_bit_grey_tiff(tmp_path):
    path = tmp_path / "p.tif"
    Image.fromarray(RGB[..., 0].astype(np.uint16) * 257).save(path)
    assert np.array_equal(images.read(path), RGB[..., :1].repeat(3, axis=2))


def tiff(pixels, order):
    """A TIFF of `(H, W, 4)` with the bytes of each number in one order or the other, which Pillow leaves to itself."""
    height, width, channels = pixels.shape
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    long, short = "HHII", "HHIHxx"
    entries = [(long, 256, 4, 1, width), (long, 257, 4, 1, height), (long, 258, 3, 4, 146), (short, 259, 3, 1, 1)]
    entries += [(short, 262, 3, 1, 2), (long, 273, 4, 1, 154), (short, 277, 3, 1, channels), (long, 278, 4, 1, height)]
    entries += [(long, 279, 4, 1, len(data)), (short, 284, 3, 1, 1), (short, 338, 3, 1, 2)]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    body = b"".join(struct.pack(order + entry[0], *entry[1:]) for entry in entries)
    return head + body + struct.pack(f"{order}I4H", 0, *[8 * pixels.itemsize] * 4) + data


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 16])
def test_tiffs_are_transparent_in_either_order_of_bytes(tmp_path, order, bits):
    path = tmp_path / "p.tif"
    path.write_bytes(tiff(ALPHA if bits == 8 else ALPHA.astype(np.uint16) * 257, order))
    assert np.abs(images.read(path).astype(int) - on_white(Image.fromarray(ALPHA))).max() <= 1


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk(tmp_path, suffix):
    path = tmp_path / f"p.{suffix}"
    expected = saved(path, Image.fromarray(RGB).convert("CMYK"), **({"quality": 100} if suffix == "jpg" else {}))
    assert np.abs(images.read(path).astype(int) - expected).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("suffix", "source"), [("jpg", RGB), ("png", RGB), ("png", ALPHA), ("webp", ALPHA)])
def test_the_cameras_orientation_is_applied(tmp_path, orientation, suffix, source):
    path = tmp_path / f"p.{suffix}"
    exif = Image.Exif()
    exif[0x112] = orientation
    options = {"jpg": {"quality": 100}, "png": {}, "webp": {"lossless": True, "exact": True}}[suffix]
    expected = saved(path, Image.fromarray(source), exif=exif.tobytes(), **options)
    pixels = images.read(path)
    assert pixels.shape == expected.shape == ((HEIGHT, WIDTH, 3) if orientation < 5 else (WIDTH, HEIGHT, 3))
    assert np.abs(pixels.astype(int) - expected).max() <= 2


def test_a_square_transparent_picture_is_turned_too(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6
    expected = saved(tmp_path / "p.png", Image.fromarray(ALPHA[:, :HEIGHT]), exif=exif.tobytes())
    assert np.array_equal(images.read(tmp_path / "p.png"), expected)


@pytest.mark.parametrize("name", ["bild äöü 写真.png", "with space.PNG", "a.b.c.png", "-dash.png"])
def test_file_names(tmp_path, name):
    images.write(tmp_path / name, RGB)
    assert np.array_equal(images.read(str(tmp_path / name)), RGB)
    assert [p.name for p in images.find(tmp_path)] == [name]


def test_one_pixel(tmp_path):
    images.write(tmp_path / "p.png", RGB[:1, :1])
    assert images.read(tmp_path / "p.png").shape == (1, 1, 3)


def encoded(suffix, **options):
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(noise).save(data, suffix, **options)
    return data.getvalue()


PNG = encoded("png")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"hello, this is text", "not a readable image"),
        (b"\x89PNG\r\n\x1a\n", "not a readable image"),
        (b"\xff\xd8\xff\xe0", "not a readable image"),
        (PNG[: len(PNG) // 2], "not a readable image"),
        (PNG[:99] + b"broken" + PNG[105:], "not a readable image"),
        (encoded("tiff")[:5000], "not a readable image"),
        (encoded("webp")[:900], "not a readable image"),
        (encoded("bmp")[:5000], "not a readable image"),
    ],
)
def test_broken_files_give_one_line(tmp_path, data, message):
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=message) as error:
        images.read(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(ImageError, match=message):
        images.load(tmp_path)


def test_a_jpeg_cut_short_is_broken(tmp_path):
    cv2 = pytest.importorskip("cv2")
    if int(cv2.__version__.split(".")[0]) < 5:
        pytest.skip("OpenCV below 5 fills the rest with grey")
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded("jpeg")[:-500])
    with pytest.raises(ImageError, match="not a readable image"):
        images.read(path)


def test_samples_of_other_kinds_are_refused(tmp_path):
    Image.fromarray(np.ones((8, 8), dtype=np.float32)).save(tmp_path / "p.tif")
    with pytest.raises(ImageError, match=r"8-bit"):
        images.read(tmp_path / "p.tif")


def test_missing_things_give_one_line(tmp_path):
    (tmp_path / "notes.txt").write_text("no photo")
    (tmp_path / ".hidden.png").write_bytes(PNG)
    (tmp_path / ".thumbnails").mkdir()
    (tmp_path / ".thumbnails" / "small.png").write_bytes(PNG)
    for function, path, message in (
        (images.read, tmp_path / "missing.png", "no image at"),
        (images.read, tmp_path, "no image at"),
        (images.load, tmp_path / "missing.png", "no image at"),
        (images.find, tmp_path / "missing", "no folder at"),
        (images.find, tmp_path, "no image in"),
        (images.load, tmp_path, "no image in"),
    ):
        with pytest.raises(ImageError, match=message) as error:
            function(path)
        assert "\n" not in str(error.value)


def test_folders_are_searched_in_order(tmp_path):
    for name in ("b/2.png", "a.png", "b/1.JPG", "c/d/e.webp", "b/readme.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(PNG)
    photos = images.load(str(tmp_path))
    assert [photo.name for photo in photos] == ["a", "b/1", "b/2", "c/d/e"]
    assert images.load(tmp_path / "b" / "2.png")[0].name == "2"


@pytest.mark.parametrize("ending", [".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".TIFF"])
def test_photos_are_known_by_their_endings(tmp_path, ending):
    (tmp_path / f"p{ending}").write_bytes(PNG)
    assert images.find(tmp_path) == [tmp_path / f"p{ending}"]


def test_links_are_followed_once(tmp_path):
    for name in ("real/a.png", "real/.thumbnails/a.png", "linked/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(PNG)
    (tmp_path / "linked" / "away").symlink_to(tmp_path / "real")
    (tmp_path / "linked" / "file.png").symlink_to(tmp_path / "real" / "a.png")
    (tmp_path / "linked" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "real" / "up").symlink_to(tmp_path / "linked")
    (tmp_path / "linked" / "above").symlink_to(tmp_path)
    names = [photo.name for photo in images.load(tmp_path / "linked")]
    assert names == ["away/a", "b", "file"]
    (tmp_path / "linked" / "z").mkdir()
    (tmp_path / "linked" / "z" / "c.png").write_bytes(PNG)
    (tmp_path / "linked" / "a").symlink_to(tmp_path / "linked" / "z")
    names = [photo.name for photo in images.load(tmp_path / "linked")]
    assert names == ["away/a", "b", "file", "z/c"], "real folders keep their names"


def test_photos_of_a_folder_have_names_of_their_own(tmp_path):
    for name in ("a/img.png", "b/img.bmp", "b/img.png", "b/img.png.bmp", "b/other.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(PNG)
    names = [photo.name for photo in images.load(tmp_path)]
    assert names == ["a/img", "b/img.bmp", "b/img.png", "b/img.png.bmp", "b/other"]


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_write_and_read(tmp_path, suffix):
    path = tmp_path / "new" / f"p.{suffix}"
    images.write(path, RGB[:, ::-1])
    assert np.array_equal(images.read(path), RGB[:, ::-1])
    images.write(path, RGB)
    assert np.array_equal(images.read(path), RGB) and len(list(path.parent.iterdir())) == 1


@pytest.mark.parametrize("name", ["p.txt", "p", "p.gif"])
def test_writing_other_formats_is_refused(tmp_path, name):
    with pytest.raises(ImageError, match="its name must end in one of .bmp, .jpeg"):
        images.write(tmp_path / name, RGB)


@pytest.mark.parametrize("pixels", [RGB / 255, RGB[..., 0], ALPHA, RGB[:0]])
def test_writing_what_is_no_picture_keeps_the_old_file(tmp_path, pixels):
    images.write(tmp_path / "p.png", RGB)
    with pytest.raises(ImageError, match=r"not uint8 of shape \(H, W, 3\)"):
        images.write(tmp_path / "p.png", pixels)
    assert np.array_equal(images.read(tmp_path / "p.png"), RGB)


def test_a_format_that_does_not_hold_the_picture(tmp_path):
    with pytest.raises(ImageError, match="cannot write .*wide.webp: .webp does not hold 1x16400 pixels: give a name"):
        images.write(tmp_path / "wide.webp", np.zeros((1, 16_400, 3), np.uint8))
    assert not list(tmp_path.iterdir())


def test_arrays_and_photos():
    photos = images.load([RGB, RGB[..., 0], Photo("mine", RGB[:7])])
    assert [photo.name for photo in photos] == ["array-0", "array-1", "mine"]
    assert np.array_equal(photos[1].pixels, RGB[..., :1].repeat(3, axis=2))
    assert len(images.load(np.stack([RGB, RGB]))) == 2


@pytest.mark.parametrize(
    "source",
    [
        [RGB / 255.0],
        [RGB.astype(np.float32)],
        [RGB, ALPHA],
        [RGB[None]],
        [RGB.transpose(2, 0, 1)],
        [RGB[:0]],
        [Photo("mine", RGB / 255)],
        ["a.png"],
        [],
        RGB,  # one array is no list: its rows must not become photos
        RGB[..., 0],
    ],
)
def test_other_arrays_are_refused(source):
    with pytest.raises(ImageError, match="image"):
        images.load(source)


def test_other_sources_are_refused():
    with pytest.raises(TypeError, match="images must be None, a folder"):
        images.load(3)
    with pytest.raises(ImageError, match="images is an empty text: give a folder"):
        images.load("")
    with pytest.raises(ValueError, match="split must be 'train' or 'test', got 'validation'"):
        images.load([np.zeros((8, 8, 3), np.uint8)], "validation")


def test_the_builtin_photos():
    train, test = images.load(None, "train"), images.builtin("test")
    assert len(train) == 7 and len(test) == 4
    for photo in train + test:
        assert photo.pixels.dtype == np.uint8 and photo.pixels.shape[2] == 3
        assert min(photo.pixels.shape[:2]) >= 256, photo.name  # a crop of the default environment
    names = [photo.name for photo in train + test]
    assert len(set(names)) == len(names)
    prints = {photo.pixels.tobytes() for photo in train + test}
    assert len(prints) == len(names)
    with pytest.raises(ValueError, match="'train' or 'test', got 'valid'"):
        images.builtin("valid")
