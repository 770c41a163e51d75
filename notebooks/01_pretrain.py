# %% [markdown]
# # Pre-train a Vision Transformer on your own images
#
# No labels are needed, only a folder of images. SiT trains one network on three tasks at once: by
# which angle an image was turned, which two views come from the same image, and what a corrupted
# image looked like before.
#
# Put your own folder into `FOLDER`. Without one, tiles of two photos that come with scikit-learn
# are used, so that everything here runs in a minute or two, without a GPU and without a download.

# %%
import pathlib

import keras
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image, display
from PIL import Image as Photo
from sklearn.datasets import load_sample_images

import sit_keras
from sit_keras.plots.image_grids import corruption_gallery, reconstruction_sheet

keras.utils.set_random_seed(0)
FOLDER = None  # such as "my/photos"

# %%
if FOLDER is None:
    FOLDER, TILE = "tiles", 60
    for name, photo in zip(["china", "flower"], load_sample_images().images, strict=True):
        pathlib.Path(FOLDER, name).mkdir(parents=True, exist_ok=True)
        for top in range(0, photo.shape[0] - TILE, 30):
            for left in range(0, photo.shape[1] - TILE, 30):
                tile = photo[top : top + TILE, left : left + TILE]
                Photo.fromarray(tile).save(f"{FOLDER}/{name}/{top}-{left}.jpg")
images = keras.utils.image_dataset_from_directory(
    FOLDER, labels=None, image_size=(64, 64), crop_to_aspect_ratio=True, batch_size=32
)

# %% [markdown]
# ## A backbone, and what pre-trains it
#
# `SiTBackbone` is a Vision Transformer. `SiTPretrainer` adds the three tasks to it. It makes two
# random views of each image inside: other crops, other colours, turned by another angle. The
# network is given corrupted views: a block without colour, a blurred block, noise, and blocks of
# other images.

# %%
backbone = sit_keras.SiTBackbone(
    image_shape=(32, 32, 3), patch_size=4, hidden_dim=64, num_layers=3, num_heads=4, mlp_dim=256
)
model = sit_keras.SiTPretrainer(backbone)

views = model.make_views(next(iter(images)), step=0)
sample = {name: values[:8, 0].numpy() for name, values in views.items()}  # one view of each
corruption_gallery({name: sample[name] for name in ("clean", "corrupted")}, "views.png")
display(Image("views.png"))

# %% [markdown]
# ## `model.fit`
#
# The views of a step follow from the seed and the step, so every epoch has other ones. The loss
# weights the three tasks by learned uncertainties. It adds their logarithms, so it may fall below
# zero: watch the raw losses.

# %%
EPOCHS = 8
model.compile(sit_keras.SiTAdamW(1e-3))
history = model.fit(images, epochs=EPOCHS, shuffle=False, verbose=2).history

# %%
figure, panels = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
for axes, task in zip(panels, model.tasks, strict=True):
    axes.plot(range(1, EPOCHS + 1), history[task], marker="o")
    axes.set(title=task, xlabel="epoch", ylabel="raw loss")
plt.show()

# %% [markdown]
# ## What it restores
#
# Above each column are the true angle and the one that the rotation head predicts. Minutes of
# training do not teach it much.

# %%
outputs = model.network(sample["corrupted"])
reconstruction_sheet(
    sample["clean"],
    sample["corrupted"],
    np.asarray(outputs["reconstruction"]),
    sample["rotation"],
    np.argmax(outputs["rotation_logits"], axis=1),
    "restored.png",
)
display(Image("restored.png"))

# %% [markdown]
# ## The encoder
#
# The backbone is the result: images in; a rotation token, a contrastive token and a token of each
# patch out. How images are cropped, resized and normalised is saved with its weights.

# %%
backbone.save_to_preset("my_encoder")
encoder = sit_keras.SiTBackbone.from_preset("my_encoder")
preprocess = sit_keras.ImagePreprocessing.of(encoder)
tokens = encoder(preprocess(next(iter(images))))
print({name: tuple(values.shape) for name, values in tokens.items()})

# %% [markdown]
# With labels, it becomes a classifier, here of the two photos that the tiles were cut from. For
# images of your own, whose sub-folders are not classes, leave this out.

# %%
labelled = keras.utils.image_dataset_from_directory(
    FOLDER, image_size=(64, 64), crop_to_aspect_ratio=True, batch_size=32
)
classifier = sit_keras.SiTImageClassifier.from_preset(
    "my_encoder", num_classes=len(labelled.class_names), class_names=labelled.class_names
)
classifier.compile()
history = classifier.fit(labelled, epochs=2, shuffle=False, verbose=2).history

# %% [markdown]
# On your own images, `sit-keras train --dataset=folder:my/photos --preset=native96` does all of
# this and keeps checkpoints. Notebook 02 evaluates an encoder, 03 exports it.
