"""The network: layers, backbone, heads, losses, and how their weights are loaded.

Only `keras` and `sit_keras.config` may be imported here.
"""
