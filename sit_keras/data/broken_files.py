"""What is said of image files that cannot be used: their names, or a refusal."""

from absl import logging

from sit_keras.data.finding import printable

_LISTED = 20  # names of broken files


def report_broken(place: str, reasons: dict[str, str], count: int, strict: bool) -> None:
    """Names the files that cannot be used in a warning, or refuses them.

    Args:
        place: str. The folder or the list that they belong to.
        reasons: why a file cannot be used, by its path; empty where all can.
        count: int. How many files there are, with those that can be used.
        strict: bool. Refuse them.

    Raises:
        ValueError: if strict, and there are such files.
    """
    if not reasons:
        return
    listing = "\n".join(
        f"  {printable(path)}: {printable(reason)}"
        for path, reason in sorted(reasons.items())[:_LISTED]
    )
    more = f"\n  and {len(reasons) - _LISTED} more" if len(reasons) > _LISTED else ""
    found = (
        f"{len(reasons)} of {count} files in {printable(place)} cannot be read:\n{listing}{more}"
    )
    if strict:
        raise ValueError(f"{found}\nMend or remove them, or run without --strict to skip them.")
    logging.warning("%s\nThey are skipped; --strict refuses them.", found)
