"""Exports an encoder as a SavedModel for TF Serving; the same as `sit-keras export`.

python export.py --run=runs/digits-digits-seed0                  to exports/digits-digits-seed0/1
python export.py --run=runs/digits-digits-seed0/evaluation/digits/finetune --output=exports/digits
python export.py --verify=exports/digits-digits-seed0/1
"""

from sit_keras.cli.main import script

if __name__ == "__main__":
    script("export")
