"""Evaluates an encoder on labelled images, or fills in a table of the paper: `sit-keras evaluate`.

python evaluate.py --run=runs/digits-digits-seed0                on the data it was pre-trained on
python evaluate.py --run=runs/cifar100-native32-seed0 --dataset=cifar10       domain transfer
python evaluate.py --run=runs/digits-digits-seed0 --protocol=finetune --per_class=5
python evaluate.py --table=ablation --dataset=stl10 --seeds=0,1,2    pre-trains what is missing
"""

from sit_keras.cli.main import script

if __name__ == "__main__":
    script("evaluate")
