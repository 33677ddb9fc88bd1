"""What an image file says beside its pixels: colour profile, EXIF data and resolution."""

from dataclasses import replace

from PIL import Image as PillowImage

from service.images.formats import FORMATS
from service.images.image import Image

# How pictures of other formats are answered. Phones write MPO, a JPEG followed by more, and HEIC; all are lossy.
_SAME_AS = {"MPO": "JPEG", "AVIF": "JPEG", "HEIF": "JPEG"}
# Description, maker, model, resolution and its unit, software, time, artist, copyright; then camera and GPS.
_EXIF_TAGS = {0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x8298}
_EXIF_GROUPS = (0x8769, 0x8825)
_MAX_ICC_BYTES, _MAX_EXIF_BYTES = 4 << 20, 60_000  # JPEG's EXIF segment holds 65,533
_MAX_READ_BYTES = 2**20  # of EXIF data or XMP; Pillow makes Python numbers of them, and searches them, under the GIL
_MOST_DPI = 65_535  # the limit of JPEG


def plausible_dpi(found: object) -> tuple[float, float] | None:
    """Return the resolution in pixels per inch if both numbers are plausible.

    Files contain any value, also 0 and infinity.
    """
    if found is None:
        return None
    try:
        across, down = (float(value) for value in found)  # type: ignore[attr-defined]  # no numbers: a TypeError
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if all(1 <= value <= _MOST_DPI for value in (across, down)) else None


def forget_large(picture: PillowImage.Image) -> None:
    """Drop EXIF data and XMP that are larger than any camera writes, before they are parsed."""
    for name in ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"):
        if len(picture.info.get(name) or b"") > _MAX_READ_BYTES:
            del picture.info[name]


def with_metadata(image: Image, picture: PillowImage.Image) -> Image:
    """Return the image with its colour profile and EXIF data, if these are valid and of reasonable size."""
    icc: object = picture.info.get("icc_profile")
    name = _SAME_AS.get(picture.format or "", picture.format)
    kind = next((entry.media_type for entry in FORMATS if entry.name == name and entry.options), None)
    # A CMYK profile does not describe the RGB values converted from it.
    space = b"GRAY" if image.channels == 1 else b"RGB "
    fits = isinstance(icc, bytes) and icc[16:20] == space and len(icc) <= _MAX_ICC_BYTES
    return replace(
        image,
        media_type=kind,
        icc=icc if fits and isinstance(icc, bytes) else None,
        exif=_exif(picture.getexif()),
        dpi=plausible_dpi(picture.info.get("dpi")),
    )


def _exif(found: PillowImage.Exif) -> bytes | None:
    """Return the EXIF data that describe the picture, without tags that describe the layout of the file."""
    kept = PillowImage.Exif()
    try:
        for tag in _EXIF_TAGS & found.keys():
            kept[tag] = found[tag]
        for tag in _EXIF_GROUPS:
            if group := found.get_ifd(tag):
                kept[tag] = group
        told = kept.tobytes() if kept else b""
    except Exception:  # noqa: BLE001  hostile files raise anything, and EXIF data is optional
        return None
    return told if 0 < len(told) <= _MAX_EXIF_BYTES else None
