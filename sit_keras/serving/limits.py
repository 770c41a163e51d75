"""The largest files that a served model decodes. Standard library only."""

MAX_BYTES = 32 << 20
# A JPEG is decoded at a fraction of its size, a PNG only as a whole.
MAX_JPEG_PIXELS = 4096 * 3072
MAX_PNG_PIXELS = 2048 * 2048
