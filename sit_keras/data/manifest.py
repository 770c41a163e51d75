"""Remembers which files of a folder were read, so that they are not read again before they change.

The memory is one file for each folder in the user's cache. Without it, every file is read again.
"""

import concurrent.futures
import contextlib
import hashlib
import importlib.metadata
import json
import os
import pathlib
import stat
import time
import typing
import zlib

import PIL

from sit_keras.config.files import written_whole
from sit_keras.config.progress import Progress
from sit_keras.data import image_formats, reading

# A file that was changed so shortly before it was read may have been changed again since, without
# a new time.
UNSETTLED_NS = 2_000_000_000
_RULES = pathlib.Path(__file__).parent  # the files that say how an image is read
_CHUNK = 32  # files that a thread takes at once
_BLOCK = 1 << 20  # bytes


class Entry(typing.NamedTuple):
    """What is known of a file.

    Args:
        size, mtime_ns, ctime_ns: its size in bytes and its times when it was read; `mtime_ns` is
            None where it must be read again in any case.
        checksum: CRC-32 of the content.
        reason: why it cannot be used, or "".
        note: what was done to its values, or "".
    """

    size: int
    mtime_ns: int | None
    ctime_ns: int
    checksum: int
    reason: str
    note: str


Range = tuple[float, float] | None


def check_files(
    root: str, files: list[str], value_range: Range = None, channels: int = 3
) -> dict[str, Entry]:
    """Reads each file that is new or has changed, and remembers what was found.

    Args:
        root: str. A folder, or the list that names the files: what the memory belongs to.
        files: paths below the folder, or absolute ones.
        value_range, channels: see `sit_keras.data.reading.check_image`.

    Returns:
        What is known, by path.
    """
    known = remembered(root, files, value_range, channels)
    new = [file for file in files if file not in known]
    if new:
        try:
            for file, entry in _read_all(root, new, value_range, channels):
                known[file] = entry
        finally:  # what was read before an interruption need not be read again
            _write(_cache_path(root, value_range, channels), known)
    return known


def remembered(
    root: str, files: list[str], value_range: Range = None, channels: int = 3
) -> dict[str, Entry]:
    """Returns what is known of those files that have not changed since; arguments as above."""
    entries = _read(_cache_path(root, value_range, channels))
    known = {}
    for file in files if entries else ():
        if (entry := entries.get(file)) is None:
            continue
        with contextlib.suppress(OSError):
            state = os.stat(os.path.join(root, file))
            if entry[:3] == (state.st_size, state.st_mtime_ns, state.st_ctime_ns):
                known[file] = entry
    return known


def _read_all(root, files, value_range, channels) -> typing.Iterator[tuple[str, Entry]]:
    """Yields the paths with what was found, in their order, and shows the progress."""

    def examine(chunk):
        return [_examine(os.path.join(root, file), value_range, channels) for file in chunk]

    chunks = [files[i : i + _CHUNK] for i in range(0, len(files), _CHUNK)]
    pool = concurrent.futures.ThreadPoolExecutor(cores())
    with Progress("reading images", len(files)) as progress:
        try:
            for chunk, entries in zip(chunks, pool.map(examine, chunks), strict=True):
                yield from zip(chunk, entries, strict=True)
                progress.advance(len(chunk))
        finally:
            pool.shutdown(cancel_futures=True)


def _examine(path, value_range, channels) -> Entry:
    begin, size, mtime, ctime, checksum, reason, note = time.time_ns(), 0, None, 0, 0, "", ""
    try:
        state = os.stat(path)
        if not stat.S_ISREG(state.st_mode):
            raise OSError("It is no regular file.")
        size, ctime = state.st_size, state.st_ctime_ns
        if abs(begin - state.st_mtime_ns) >= UNSETTLED_NS:
            mtime = state.st_mtime_ns
        note = reading.check_image(path, value_range, channels)
        checksum = _checksum(path)
    except OSError as error:
        reason = str(error).removeprefix(f"{path}: ")
        if _is_passing(error):
            mtime = None
    return Entry(size, mtime, ctime, checksum, reason, note)


def _is_passing(error: OSError) -> bool:
    """Whether an error is one of the disk, the network or the memory, and not of the file."""
    causes = (error, error.__cause__)
    return any(isinstance(e, MemoryError) or getattr(e, "errno", None) for e in causes)


def _checksum(path) -> int:
    checksum = 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            checksum = zlib.crc32(block, checksum)
    return checksum


def cores() -> int:
    """Returns the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version() -> str:
    """Returns a text that changes with the format of the memory and with the rules of reading."""
    rules = zlib.crc32(repr((image_formats.EXTENSIONS, _readers())).encode())
    for path in sorted(_RULES.glob("*.py")):
        rules = zlib.crc32(path.read_bytes(), rules)
    return f"1 {PIL.__version__} {rules:08x}"


def _readers() -> list[str | None]:
    """Returns the versions of the optional packages by which images are read."""
    versions: list[str | None] = []
    for package in ("tifffile", "imagecodecs", "pi-heif"):
        try:
            versions.append(importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            versions.append(None)
    return versions


def cache_folder() -> pathlib.Path | None:
    """Returns the folder of what is remembered, or None where the user has no cache."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(cache):
        cache = os.path.join(os.path.expanduser("~"), ".cache")
    return pathlib.Path(cache) / "sit_keras" if os.path.isabs(cache) else None


def _cache_path(root, value_range, channels) -> pathlib.Path | None:
    """Returns the file that remembers a folder, or None where the user has no cache."""
    cache = cache_folder()
    if cache is None:
        return None
    values = value_range and tuple(map(float, value_range))
    key = os.fsencode(os.path.realpath(root)) + b"\0" + repr((values, channels)).encode()
    return cache / f"folder-{hashlib.sha256(key).hexdigest()[:32]}.json"


def _read(path) -> dict[str, Entry]:
    """Returns the memory; nothing where it is missing, damaged or of another version."""
    try:
        head, content = path.read_bytes().split(b"\n", 1) if path else (b"", b"")
    except (OSError, ValueError):
        return {}
    if head != _head(content):
        return {}
    return {file: Entry(*values) for file, values in json.loads(content).items()}


def _write(path, entries: dict[str, Entry]) -> None:
    """Writes the memory, if the cache takes it."""
    if path is None:
        return
    # Names that are not UTF-8 are strings with lone surrogates, which JSON keeps as ASCII.
    content = json.dumps(entries, separators=(",", ":")).encode("ascii")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as aside:
            aside.write_bytes(_head(content) + b"\n" + content)


def _head(content: bytes) -> bytes:
    return f"{_version()} {zlib.crc32(content):08x}".encode()
