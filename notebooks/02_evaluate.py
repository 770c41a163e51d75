# %% [markdown]
# # Evaluate an encoder
#
# Was the pre-training worth it? A linear classifier on frozen features, nearest neighbours, few
# labels, and a map of the features answer this. The encoder here sees the 8x8 digits of
# scikit-learn for half a minute; a full run (`sit-keras train`) takes two minutes and does better.

# %%
import numpy as np
from IPython.display import Image, display
from sklearn.datasets import load_sample_images

import sit_keras

RUN = "runs/notebook-02"
config = sit_keras.run_config("digits", epochs=8, warmup_epochs=2)
results = sit_keras.pretrain(config, RUN)

# %% [markdown]
# ## The comparison of the run itself
#
# Its encoder, the same network untrained, and raw pixels. Digits are so well centred that raw
# pixels are hard to beat.

# %%
for kind, accuracy in results["linear_accuracy"].items():
    print(f"{kind:10} linear {accuracy:.1%}   neighbours {results['knn_accuracy'][kind]:.1%}")

# %% [markdown]
# ## Protocols
#
# `linear`: a linear head on each of the two tokens, their logits averaged. `knn`: nearest
# neighbours by cosine. `diagnostics`: has the representation collapsed, and how many of its
# dimensions are used?

# %%
found = sit_keras.evaluate(RUN, k=(1, 5, 20))

# %%
display(Image(f"{RUN}/evaluation/digits/confusion.png", width=520))
display(Image(f"{RUN}/evaluation/digits/map.png", width=620))

# %% [markdown]
# ## With few labels
#
# The same frozen encoder, with a linear head trained on 2, 10 and 50 labelled images of each class.

# %%
few = {}
for per_class in (2, 10, 50):
    results = sit_keras.evaluate(RUN, protocol=["linear"], per_class=per_class)
    few[per_class] = results["linear"]["accuracy"]

# %%
for per_class, accuracy in few.items():
    print(f"{per_class:3} labels a class: {accuracy:.1%}")

# %% [markdown]
# And few-shot learning as in the paper: all weights are fine-tuned on those 50 images of each
# class.

# %%
tuned = sit_keras.evaluate(RUN, protocol=["finetune"], per_class=50, training={"epochs": 20})

# %%
print(f" 50 labels a class, fine-tuned: {tuned['finetune']['accuracy']:.1%}")

# %% [markdown]
# The whole few-shot protocol and the paper's tables are `--protocol=fewshot` and `--table=...` of
# `sit-keras evaluate`.

# %% [markdown]
# ## An encoder that comes with the package
#
# `sit_cifar10_cpu` was pre-trained for some hours on the photos of CIFAR-10, and takes images of
# any size. Of two photos of scikit-learn, 40 pieces each: does the nearest neighbour of a piece
# come from the same photo?

# %%
photos = load_sample_images().images  # (427, 640, 3) each: a temple and a flower
random = np.random.default_rng(0)
corners = [(random.integers(427 - 160), random.integers(640 - 160)) for _ in range(40)]
pieces = np.stack([p[top : top + 160, left : left + 160] for p in photos for top, left in corners])
photo_of = np.repeat([0, 1], len(corners))


def share_from_the_same_photo(features):
    features = features - features.mean(axis=0)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    similarity = features @ features.T
    np.fill_diagonal(similarity, -1)
    return (photo_of[similarity.argmax(axis=1)] == photo_of).mean()


encoder = sit_keras.SiTBackbone.from_preset("sit_cifar10_cpu", image_shape=(64, 64, 3))
tokens = encoder.predict(sit_keras.ImagePreprocessing.of(encoder)(pieces), verbose=0)
both = np.concatenate([tokens["rotation_token"], tokens["contrastive_token"]], axis=1)
print(f"by the encoder: {share_from_the_same_photo(both):.0%}")
print(f"by raw pixels:  {share_from_the_same_photo(pieces.reshape(len(pieces), -1) / 255):.0%}")
