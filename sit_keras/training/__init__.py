"""Pre-training: the Keras model with its `train_step`, strategies, checkpoints, guards.

May import `runs` and what lies below it.
"""
