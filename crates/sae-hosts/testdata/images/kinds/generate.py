"""Small images of many kinds, and their colours as Pillow gives them: open, exif_transpose, RGB.

python3 generate.py, with Pillow, numpy and safetensors. `refused` holds what is not read.
"""

import pathlib
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent
y, x = np.mgrid[0:16, 0:24]
RGB = np.stack([x * 10, y * 15, (x * y) % 256], -1).astype(np.uint8)
ALPHA = ((x + y) * 6).astype(np.uint8)
picture = Image.fromarray(RGB)
rgba = Image.fromarray(np.dstack([RGB, ALPHA]))


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(colour_type, depth, rows):
    """A PNG of rows of bytes."""
    header = struct.pack(">IIBBBBB", 24, 16, depth, colour_type, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def sixteen(channels):
    values = np.stack([(x * 2600 + y * 17 + c * 999) % 65536 for c in range(channels)], -1)
    return [row.astype(">u2").tobytes() for row in values]


for o in range(1, 9):
    picture.save(HERE / f"exif{o}.jpg", exif=exif(o), quality=95, subsampling=0)
for o in (3, 6):
    picture.save(HERE / f"exif{o}.png", exif=exif(o))
    picture.save(HERE / f"exif{o}.webp", exif=exif(o), lossless=True)
xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="8"/></x:xmpmeta>'
picture.save(HERE / "xmp8.jpg", xmp=xmp, quality=95, subsampling=0)
picture.save(HERE / "xmp8.webp", xmp=xmp, lossless=True)
info = PngImagePlugin.PngInfo()
info.add_itxt("XML:com.adobe.xmp", xmp.decode())
picture.save(HERE / "xmp8.png", pnginfo=info)
plain = png(2, 8, [row.tobytes() for row in RGB])
late = plain[:-12] + chunk(b"eXIf", exif(5).tobytes()[6:]) + plain[-12:]
(HERE / "late_exif5.png").write_bytes(late)
picture.save(HERE / "subsampled.jpg", quality=90, subsampling=2)
picture.save(HERE / "progressive.jpg", quality=95, progressive=True, subsampling=0)
picture.convert("L").save(HERE / "grey.jpg", quality=95)
picture.convert("CMYK").save(HERE / "cmyk.jpg", quality=95)
picture.save(HERE / "lossy.webp", quality=95)
rgba.save(HERE / "transparent.webp", lossless=True, exact=True)
rgba.save(HERE / "transparent.png")
rgba.convert("LA").save(HERE / "grey_transparent.png")
picture.convert("L").save(HERE / "grey.png")
picture.convert("1").save(HERE / "one_bit.png")
palette = picture.quantize(16)
palette.save(HERE / "palette.png")
palette.save(HERE / "palette_transparent.png", transparency=3)
picture.save(HERE / "bitmap.bmp")
(HERE / "sixteen.png").write_bytes(png(2, 16, sixteen(3)))
(HERE / "sixteen_transparent.png").write_bytes(png(6, 16, sixteen(4)))
(HERE / "gamma.png").write_bytes(plain[:33] + chunk(b"gAMA", struct.pack(">I", 100000)) + plain[33:])
(HERE / "refused" / "sixteen_grey.png").write_bytes(png(0, 16, sixteen(1)))
info = PngImagePlugin.PngInfo()
info.add_text("Raw profile type exif", "\nexif\n      26\n" + exif(6).tobytes().hex() + "\n", zip=True)
picture.save(HERE / "refused" / "raw_profile.png", pnginfo=info)
picture.save(
    HERE / "refused" / "animated.webp", save_all=True, append_images=[rgba], duration=9, lossless=True
)
whole = (HERE / "exif1.jpg").read_bytes()
(HERE / "refused" / "cut_off.jpg").write_bytes(whole[: len(whole) * 2 // 3])

expected = {}
for path in sorted(HERE.iterdir()):
    if path.suffix in (".jpg", ".png", ".webp", ".bmp"):
        image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        expected[path.name] = np.ascontiguousarray(np.asarray(image))
        print(path.name, image.size, Image.open(path).mode)
save_file(expected, HERE / "expected.safetensors")
