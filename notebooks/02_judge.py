# %% [markdown]
# # Judge an encoder
#
# Was the pre-training worth it? A linear classifier on frozen features, nearest neighbours, few
# labels, and a look at the features tell. The encoder here sees scikit-learn's 8x8 digits for
# half a minute; a full run (`python train.py`) takes two minutes and does better.

# %%
from IPython.display import Image, display

from sit_keras.config.presets import recipe
from sit_keras.config.serialization import changed
from sit_keras.workflows.evaluate import evaluate
from sit_keras.workflows.pretrain import pretrain

RUN = "runs/notebook-02"
config = changed(recipe("digits"), {"epochs": 8, "warmup_epochs": 2})
results = pretrain(config, RUN)

# %% [markdown]
# ## The verdict of the run itself
#
# Its encoder against the same network untrained, and against raw pixels. Digits lie so well
# centred that pixels are hard to beat.

# %%
for kind, accuracy in results["linear_accuracy"].items():
    print(f"{kind:10} linear {accuracy:.1%}   neighbours {results['knn_accuracy'][kind]:.1%}")

# %% [markdown]
# ## Protocols
#
# `linear`: a head on each of the two tokens, their logits averaged. `knn`: nearest neighbours by
# cosine. `health`: has the representation collapsed? How many of its dimensions are used?

# %%
found = evaluate(RUN, chosen=("linear", "knn", "health"), ks=(1, 5, 20))

# %%
display(Image(f"{RUN}/evaluation/digits/confusion.png", width=520))
display(Image(f"{RUN}/evaluation/digits/map.png", width=620))

# %% [markdown]
# ## With few labels
#
# The same frozen encoder, a linear head taught by 2, 10 and 50 labelled images of each class.

# %%
few = {
    per_class: evaluate(RUN, chosen=("linear",), per_class=per_class)["linear"]["accuracy"]
    for per_class in (2, 10, 50)
}

# %%
for per_class, accuracy in few.items():
    print(f"{per_class:3} labels a class: {accuracy:.1%}")

# %% [markdown]
# And few-shot as in the paper: all weights are fine-tuned on those 50 images of each class.

# %%
tuned = evaluate(RUN, chosen=("finetune",), per_class=50, training={"epochs": 20})

# %%
print(f" 50 labels a class, fine-tuned: {tuned['finetune']['accuracy']:.1%}")

# %% [markdown]
# The whole few-shot protocol and the paper's tables are `--protocol=fewshot` and `--table=...` of
# `python evaluate.py`.
