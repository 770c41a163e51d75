"""How good an encoder is: frozen features, neighbours, linear heads, fine-tuning.

May import `training`, `runs` and what lies below them.
"""
