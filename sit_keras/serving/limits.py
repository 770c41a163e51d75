"""The most that a served model takes. Standard library only.

One file within these limits costs at most 200 MiB and 2 seconds of one core, and
benchmarks/hostile_files.py measures the worst of each kind.
"""

# Images or files of one request. A server that puts requests together must stay below it.
MAX_IMAGES = 256
# All images of floats of one request together: 256 of 512 x 512, 768 MiB.
MAX_IMAGE_PIXELS = 256 * 512 * 512

MAX_BYTES = 32 << 20
# A JPEG is decoded at a fraction of its size, a PNG only as a whole.
MAX_JPEG_PIXELS = 4096 * 3072
MAX_JPEG_SAMPLES = 3 * MAX_JPEG_PIXELS  # pixels times components: three quarters for CMYK
MAX_PNG_PIXELS = 2048 * 2048
# The data of a PNG are unpacked several times to see where the image ends in them. These are their
# bytes, packed and unpacked: four for each pixel, so that images of 16 bits have fewer pixels.
MAX_PNG_DATA = 5 << 20
MAX_PNG_UNPACKED = 20 << 20

# Every scan of a JPEG goes over all its pixels once more, for a few bytes; photos have 1 to 12.
MAX_JPEG_SCANS = 256
MAX_JPEG_SCAN_PIXELS = 24 * MAX_JPEG_PIXELS
# Those before the first scan: a colour profile or a depth map can take hundreds.
MAX_JPEG_SEGMENTS = 1024
MAX_PNG_CHUNKS = 8192
