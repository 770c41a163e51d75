"""Which image files are read, by the ends of their names, and which are not and why."""

import functools

from PIL import features

from sit_keras.config.extras import import_package, install, is_installed

HAS_AVIF = bool(features.check("avif"))
HAS_HEIF = is_installed("pi_heif")
_HEIF = (".heic", ".heif", ".hif")

# In small letters. What a file is, its contents decide among the formats below.
EXTENSIONS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".gif", ".webp", ".tif",
    ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".npy",
    *([".avif"] if HAS_AVIF else []),
    *(_HEIF if HAS_HEIF else []),
)  # fmt: skip

# The only formats that Pillow may take a file for: it would start other programs for some.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "TGA")

_CONVERT = "convert them to JPEG, PNG or TIFF"
_RAW = "develop these camera files to JPEG, PNG or TIFF"
_VALUES = "convert them to TIFF or PNG; --value_range says which values are black and white"

# Pictures that are not read, and what helps.
OTHER_IMAGES = {
    **({} if HAS_AVIF else {".avif": 'pip install "pillow>=11.3" reads them'}),
    **({} if HAS_HEIF else dict.fromkeys(_HEIF, f"{install('pi_heif')} reads them")),
    **dict.fromkeys(
        (".jp2", ".j2k", ".jpx", ".jpf", ".jxl", ".jxr", ".svg", ".svgz", ".eps", ".ps", ".ai",
         ".pdf", ".wmf", ".emf", ".psd", ".psb", ".xcf", ".ico", ".icns", ".cur", ".dds", ".pcx",
         ".qoi", ".ras", ".sgi", ".djvu", ".avifs", ".heics", ".dib", ".bpg", ".flif"),
        _CONVERT,
    ),
    **dict.fromkeys(
        (".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".raf", ".orf",
         ".rw2", ".pef", ".raw", ".rwl", ".3fr", ".iiq", ".srw", ".x3f", ".kdc", ".erf", ".mrw"),
        _RAW,
    ),
    **dict.fromkeys(
        (".dcm", ".dicom", ".nii", ".nrrd", ".mha", ".mhd", ".exr", ".hdr", ".pfm", ".fits",
         ".fit", ".fts", ".czi", ".nd2", ".lif", ".lsm", ".svs", ".ndpi", ".mrxs", ".vsi"),
        _VALUES,
    ),
}  # fmt: skip


@functools.cache
def readable_formats() -> tuple[str, ...]:
    """Returns the names of the formats that Pillow may read; registers that of the extra."""
    if HAS_HEIF:
        import_package("pi_heif").register_heif_opener()
    return (*_FORMATS, *(["HEIF"] if HAS_HEIF else []), *(["AVIF"] if HAS_AVIF else []))
