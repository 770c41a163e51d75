"""PyTorch checkpoints to encoders and back, whichever way the source asks for."""

import os
import pathlib

from sit_keras.config.choices import RELEASES
from sit_keras.conversion.checkpoints import from_torch, to_torch
from sit_keras.workflows.messages import typed


def convert(
    source: str | os.PathLike,
    output: str | os.PathLike,
    weights: str | None = None,
    release: str = RELEASES[0],
    num_heads: int | None = None,
    image_size: int | None = None,
) -> None:
    """Converts a PyTorch checkpoint to an encoder, or an encoder to one, and prints what came out.

    Args:
        source: a `.pth`, `.pt` or `.safetensors` file; or a run folder or `.keras` file, for the
            way back.
        output: the folder of the encoder; or the `.pth` or `.safetensors` file.
        weights, release, num_heads, image_size: as for `from_torch`; only `release` has a meaning
            for the way back.

    Raises:
        ValueError: if the source cannot be converted, or a setting has no meaning for it.
        MissingPackage: if PyTorch or safetensors is needed and not installed.
    """
    path = pathlib.Path(source)
    if path.is_dir() or path.suffix == ".keras":
        settings = {"weights": weights, "num_heads": num_heads, "image_size": image_size}
        given = [name for name, value in settings.items() if value is not None]
        if given:
            raise ValueError(f"--{given[0]} is for reading PyTorch files; {source} is none.")
        names = to_torch(source, output, release)
        print(f"{len(names)} weights: {output}")
        return
    about = from_torch(source, output, weights, release, num_heads, image_size)
    print(_summary(about, pathlib.Path(output)))


def _summary(about, output) -> str:
    """What was converted, and what to do with it."""
    encoder = output / "encoder.keras"
    lines = [f"Left out: {', '.join(about['left_out'])}"] if about["left_out"] else []
    lines.append(
        f"{about['num_heads']} attention heads, which the file does not say (--num_heads)."
    )
    if about["kind"] == "start":
        lines += [
            "One class token became two, so its outputs are not the source's: train it first.",
            f"Encoder: {encoder}",
            f"Next:    {typed('train')} --set=initial_encoder={encoder} ...",
        ]
        return "\n".join(lines)
    if about["kind"] == "network":
        lines += [
            f"Rotations count as in the authors' release of {about['release']} (--release).",
            f"Network: {output / 'network.keras'}",
        ]
    if about["kind"] == "classifier":
        lines.append(f"Classes: {output / 'classifier.keras'}")
    lines += [f"Encoder: {encoder}", f"Next:    {typed('evaluate')} --run={output} --dataset=..."]
    return "\n".join(lines)
