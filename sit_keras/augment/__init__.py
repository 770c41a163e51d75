"""Views and corruptions: random numbers, the parameters drawn from them, and the operations.

Only `keras` and `sit_keras.config` may be imported here.
"""
