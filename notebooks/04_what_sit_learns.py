# %% [markdown]
# # What SiT learns
#
# The corruptions it is given, what it restores epoch by epoch, where its two tokens look, which
# way up it takes images to be, and how the three tasks share the network. `sit-keras report RUN`
# plots all of this for any run, with one `report.html` that opens without a network.

# %%
import pathlib

from IPython.display import Image, Markdown, display

import sit_keras
from sit_keras.workflows.pictures import draw_pictures

RUN = pathlib.Path("runs/notebook-04")
config = sit_keras.run_config("digits", epochs=12, sheet_every=4, warmup_epochs=2)
results = sit_keras.pretrain(config, RUN)
pictures = {picture.path.stem: picture for picture in draw_pictures(RUN)}

# %% [markdown]
# ## Corruptions

# %%
display(Image(pictures["corruptions"].path, width=900), Markdown(pictures["corruptions"].caption))

# %% [markdown]
# ## What it restores, epoch by epoch
#
# Above each column are the true angle and the one that the rotation head predicts.

# %%
for epoch in (4, 8, 12):
    display(Markdown(f"Epoch {epoch}"), Image(RUN / "sheets" / f"epoch_{epoch:04d}.png", width=900))

# %% [markdown]
# ## Which way up?
#
# A 6 turned by 180 degrees is a 9, so this cannot reach 100 %.

# %%
display(Image(pictures["rotations"].path, width=420), Markdown(pictures["rotations"].caption))

# %% [markdown]
# ## Where the two tokens look
#
# Both look at the same patches, each for its own task.

# %%
for name in ("attention-rotation", "attention-contrastive"):
    display(Image(pictures[name].path, width=760), Markdown(pictures[name].caption))

# %% [markdown]
# ## How the tasks share the network
#
# The raw loss of each task, its learned alpha, the weight that follows from it, and its share of
# the gradient that reaches the encoder. A task whose alpha falls gains weight. Here the contrastive
# task hardly moves in so few epochs, and its weight shrinks.

# %%
display(Image(pictures["curves"].path), Markdown(pictures["curves"].caption))

# %% [markdown]
# ## What it finds alike

# %%
display(Image(pictures["neighbours"].path, width=900), Markdown(pictures["neighbours"].caption))
display(Image(pictures["feature_map"].path, width=620), Markdown(pictures["feature_map"].caption))
