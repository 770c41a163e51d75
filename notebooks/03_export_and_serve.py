# %% [markdown]
# # Export and serve an encoder
#
# From a run to a SavedModel that needs neither Keras nor this package, then a linear head on top
# of it, then a server.

# %%
import base64
import json
import pathlib

import keras
import numpy as np
import tensorflow as tf

import sit_keras
from sit_keras.serving.export import verify_export

tf.get_logger().setLevel("WARNING")  # TensorFlow reports every file that it writes
config = sit_keras.run_config("digits", epochs=4, warmup_epochs=2)
results = sit_keras.pretrain(config, "runs/notebook-03")

# %% [markdown]
# ## Export
#
# Cropping, resizing and normalising are inside. `verify_export` loads the export in a process of
# its own, where Keras and this package are blocked, and compares its outputs with the examples that
# were written with it.

# %%
version = sit_keras.export("runs/notebook-03", "exports/digits")
print(verify_export(version))

# %%
contract = json.loads((version / "assets" / "contract.json").read_text())
for name, signature in contract["signatures"].items():
    print(f"{name:18} {list(signature['inputs'])} -> {list(signature['outputs'])}")

# %% [markdown]
# ## A linear head on the SavedModel
#
# `TFSMLayer` makes a frozen Keras layer of it. To train the head, nothing but the export is needed.

# %%
digits = sit_keras.load_source("digits")
pixels = {name: part.items / np.float32(255) for name, part in
          (("train", digits.train), ("test", digits.test))}  # fmt: skip

encoder = keras.layers.TFSMLayer(version, call_endpoint="serving_default", trainable=False)
embed = keras.Sequential([keras.Input((None, None, 3)), encoder])
embeddings = {name: embed.predict(x, verbose=0)["embedding"] for name, x in pixels.items()}

keras.utils.set_random_seed(0)
head = keras.Sequential([keras.layers.Normalization(), keras.layers.Dense(10)])
head.layers[0].adapt(embeddings["train"])
head.compile(
    keras.optimizers.Adam(0.01),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
head.fit(embeddings["train"], digits.train.labels, epochs=30, batch_size=128, verbose=0)
_, accuracy = head.evaluate(embeddings["test"], digits.test.labels, verbose=0)
print(f"{accuracy:.1%} of {len(digits.test)} test images")

# %% [markdown]
# ## Serve it
#
# TF Serving takes the folder as it is. With Docker, from a copy of the project:
#
#     MODEL=$PWD/exports/digits docker compose --file=serving/compose.yml up
#     sit-keras client photo.jpg my/photos --neighbours=3
#
# The client sends JSON with the files in base64. The signature that the server calls can be called
# here as well:

# %%
png = tf.io.encode_png(digits.test.items[0]).numpy()
request = {
    "signature_name": "serving_bytes",
    "instances": [{"image_bytes": {"b64": base64.b64encode(png).decode()}}],
}
print(json.dumps(request)[:120], "...")

served = tf.saved_model.load(str(version)).signatures["serving_bytes"]
answer = served(image_bytes=tf.constant([png, b"not an image"]))
for ok, error, embedding in zip(answer["ok"], answer["error"], answer["embedding"], strict=True):
    print(bool(ok), error.numpy().decode() or "-", embedding.numpy()[:4].round(3))

# %% [markdown]
# A broken file gets an answer of its own and does not fail its batch. The versions of an export
# are side by side, and the server takes the newest:

# %%
for path in sorted(pathlib.Path("exports/digits").glob("*/**/*")):
    if path.is_file():
        print(f"{path}  {path.stat().st_size:,} bytes")
