# %% [markdown]
# # Pre-train a Vision Transformer on your own images
#
# No labels are needed, only a folder of images. SiT teaches one network three tasks at once:
# which way up an image was turned, which two views belong to one image, and what a spoilt image
# looked like before.
#
# Put your own folder into `FOLDER`. Without one, tiles of two photos that scikit-learn carries
# stand in, so that everything here runs in a minute or two, without a GPU and without a download.

# %%
import pathlib

import keras
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image, display
from PIL import Image as Photo
from sklearn.datasets import load_sample_images

import sit_keras
from sit_keras.data.pipeline import step_views
from sit_keras.data.sources import load_source
from sit_keras.data.views import TwoViews
from sit_keras.plots import image_grids

keras.utils.set_random_seed(0)
FOLDER = None  # such as "my/photos": sub-folders are classes, if there are any

# %%
if FOLDER is None:
    FOLDER, TILE = "tiles", 60
    for name, photo in zip(["china", "flower"], load_sample_images().images, strict=True):
        pathlib.Path(FOLDER, name).mkdir(parents=True, exist_ok=True)
        for top in range(0, photo.shape[0] - TILE, 30):
            for left in range(0, photo.shape[1] - TILE, 30):
                tile = photo[top : top + TILE, left : left + TILE]
                Photo.fromarray(tile).save(f"{FOLDER}/{name}/{top}-{left}.jpg")
images = load_source(f"folder:{FOLDER}").train
print(len(images), "images")

# %% [markdown]
# ## Two views of each image
#
# Each image gives two random crops, with other colours, turned by another angle. The network sees
# them spoilt: a block without colour, a blurred block, noise, and blocks of other images.

# %%
BATCH, EPOCHS, SIZE = 32, 8, 32
steps = len(images) // BATCH
two_views = TwoViews(SIZE)
views = step_views(images, two_views, BATCH, 0, EPOCHS * steps)

sample = {name: values[:, 0].numpy() for name, values in next(iter(views)).items()}
stages = {name: sample[name][:8] for name in ("clean", "corrupted")}
image_grids.corruption_gallery(stages, "views.png")
display(Image("views.png"))

# %% [markdown]
# ## `model.fit`
#
# `SiTPretrainer` is a Keras model. Its loss weighs the three tasks by learned uncertainties; it
# adds their logarithms, so it may fall below zero. The raw losses tell more.

# %%
config = sit_keras.SiTConfig(
    image_size=SIZE, patch_size=4, hidden_dim=64, num_layers=3, num_heads=4, mlp_dim=256
)
model = sit_keras.SiTPretrainer(config)
model.compile(keras.optimizers.AdamW(1e-3, weight_decay=0.05))
history = model.fit(views, epochs=EPOCHS, steps_per_epoch=steps, shuffle=False, verbose=2).history

# %%
figure, panels = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
for axes, task in zip(panels, model.tasks, strict=True):
    axes.plot(range(1, EPOCHS + 1), history[task], marker="o")
    axes.set(title=task, xlabel="epoch", ylabel="raw loss")
plt.show()

# %% [markdown]
# ## What it restores
#
# The angles are what the rotation head says of the spoilt views; minutes of training do not teach
# it much.

# %%
outputs = model.network(sample["corrupted"][:8])
image_grids.reconstruction_sheet(
    sample["clean"][:8],
    sample["corrupted"][:8],
    np.asarray(outputs["reconstruction"]),
    sample["rotation"][:8],
    np.argmax(outputs["rotation"], axis=1),
    "restored.png",
)
display(Image("restored.png"))

# %% [markdown]
# ## The encoder
#
# That is what remains: images in, a rotation token, a contrastive token and a token for each
# patch out. On your own images `python train.py --dataset=folder:my/photos --preset=native96`
# does all of this and keeps checkpoints; notebook 02 judges an encoder, 03 puts it to work.

# %%
model.encoder.save("encoder.keras")
encoder = sit_keras.load_encoder("encoder.keras")
tokens = encoder(sample["clean"][:8])
print({name: tuple(values.shape) for name, values in tokens.items()})
