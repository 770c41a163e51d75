"""Pictures for the tests of the index, what people do to their copies, and one encoder for all."""

import numpy as np
import pytest
from PIL import Image, ImageOps


@pytest.fixture(scope="session")
def one_embedder():
    """The encoder of the package is loaded and traced once."""
    from sit_keras.workflows import embed, embedding, search

    made = {}

    def make(encoder, features="tokens"):
        if encoder != "sit_digits":
            return embedding.Embedder(encoder, features)
        if features not in made:
            made[features] = embedding.Embedder(encoder, features)
        return made[features]

    with pytest.MonkeyPatch.context() as patch:
        for module in (embed, search):
            patch.setattr(module, "Embedder", make)
        yield


def write_photos(folder, count, seed=0):
    """Writes pictures of a few coloured spots, `00.png` and so on, and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    paths = []
    for number in range(count):
        coarse = random.integers(0, 256, (5, 6, 3), "uint8")
        image = Image.fromarray(coarse).resize((96, 80), Image.Resampling.BICUBIC)
        paths.append(folder / f"{number:02}.png")
        image.save(paths[-1])
    return paths


def altered(path, how):
    """Writes a copy of a picture beside it, and returns its path."""
    image = Image.open(path)
    copy = path.with_name(f"{path.stem}-{how}.png")
    if how == "content":
        copy.write_bytes(path.read_bytes())
    elif how == "pixels":
        image.save(copy, compress_level=1)
    elif how == "jpeg":
        copy = copy.with_suffix(".jpg")
        image.save(copy, quality=60)
    elif how == "small":
        image.resize((48, 40), Image.Resampling.LANCZOS).save(copy)
    elif how == "mirrored":
        ImageOps.mirror(image).save(copy)
    return copy
