"""Pre-trains SiT on unlabelled images; the same as `sit-keras train`.

python train.py                                  the embedded digits, in minutes on a CPU
python train.py --dataset=stl10 --download       the paper's ViT-B/16 on STL-10, on a GPU
python train.py --dataset=folder:my/photos --preset=native96    your own images
"""

from sit_keras.cli.main import script

if __name__ == "__main__":
    script("train")
