"""Weights from PyTorch checkpoints, and back.

May import `runs` and what lies below it.
"""
