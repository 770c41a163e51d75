"""Images from TensorFlow Datasets, from folders and from memory, their splits and pipelines.

May import `augment`, `models` and `config`.
"""
