"""Searches for better settings of a pre-training; the same as `sit-keras tune`.

python tune.py                                                 ten trials on the embedded digits
python tune.py --dataset=cifar10 --preset=native32 --trials=30 --search=bayesian --set=epochs=50
python tune.py --dataset=folder:my/photos --preset=native96 --parameters=learning_rate,corruption
"""

from sit_keras.cli.main import script

if __name__ == "__main__":
    script("tune")
