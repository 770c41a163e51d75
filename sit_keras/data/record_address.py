"""Where one encoded image lies within a shard of records, as a text in place of a path."""

import re
import typing
import zlib

_TEXT = re.compile(r"(.*\.tfrecord(?:-\d+-of-\d+)?)#(\d+)\+(\d+)=([0-9a-f]{8})", re.DOTALL)


class RecordAddress(typing.NamedTuple):
    """The bytes of an image file in a shard.

    Args:
        shard: str. Path of the shard.
        position, length: int. Of the image in bytes.
        checksum: int. CRC-32 of the image.
    """

    shard: str
    position: int
    length: int
    checksum: int

    @classmethod
    def parse(cls, text: str) -> "RecordAddress | None":
        """Returns the address that `str` has made a text of, or None for the path of a file."""
        found = _TEXT.fullmatch(text)
        if found is None:
            return None
        return cls(found[1], int(found[2]), int(found[3]), int(found[4], 16))

    def __str__(self) -> str:
        return f"{self.shard}#{self.position}+{self.length}={self.checksum:08x}"

    def read(self) -> bytes:
        """Returns the image file.

        Raises:
            OSError: if the shard is missing, too short or changed; in a sentence that names it.
        """
        with open(self.shard, "rb") as file:
            file.seek(self.position)
            data = file.read(self.length)
        if len(data) != self.length or zlib.crc32(data) != self.checksum:
            raise OSError(
                f"{self}: the shard does not hold the image that was packed: copy it again from "
                "where it was made, or pack the images again."
            )
        return data
