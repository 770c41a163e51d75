"""Exports an encoder as a SavedModel for TF Serving, or verifies an export.

python export.py --run=runs/digits-digits-seed0                  to exports/digits-digits-seed0/1
python export.py --run=runs/digits-digits-seed0/evaluation/digits/finetune --output=exports/digits
python export.py --verify=exports/digits-digits-seed0/1
"""

import pathlib
import sys

from absl import app, flags, logging

from sit_keras.serving.export import export, export_folder, export_tflite, verify_export

RUN = flags.DEFINE_string(
    "run",
    None,
    "A run folder of train.py, a folder of fine-tuning, or a .keras file of an encoder.",
)
OUTPUT = flags.DEFINE_string(
    "output", None, "Folder of the versions. Default: exports/ and the name of the run."
)
CLASSIFIER = flags.DEFINE_string(
    "classifier",
    None,
    "A classifier.keras on this encoder. Default: that of evaluate.py on the run's own data, if it "
    "is there.",
)
HALF = flags.DEFINE_bool("half", False, "Keep the weights in float16: half the size.")
TFLITE = flags.DEFINE_bool("tflite", False, "Write the encoder for TFLite too, for one image.")
VERIFY = flags.DEFINE_string(
    "verify",
    None,
    "Compare this version, exports/NAME/1, with the contract inside of it, and stop.",
)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments {argv[1:]}: flags are --name=value.")
    logging.set_verbosity(logging.WARNING)
    if VERIFY.value:
        print(verify_export(VERIFY.value))
        return
    if RUN.value is None:
        raise ValueError("Give --run, a run folder of train.py or a .keras file, or --verify.")
    output = OUTPUT.value or export_folder(RUN.value)
    version = export(RUN.value, output, CLASSIFIER.value, HALF.value)
    if TFLITE.value:
        print(f"TFLite:   {export_tflite(version)}")
    print(f"Exported and verified: {version}")
    place = pathlib.Path(output).resolve()
    print(f"Serve:    MODEL={place} docker compose --file=serving/compose.yml up")
    print("Ask:      python -m sit_keras.client photo.jpg")


if __name__ == "__main__":
    try:
        app.run(main)
    except (ValueError, OSError) as error:
        sys.exit(f"export.py: {error}")
