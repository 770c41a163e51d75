"""Charts and grids of images, drawn with matplotlib.

May import `augment`, `models` and `config`.
"""
