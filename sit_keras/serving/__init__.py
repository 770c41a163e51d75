"""An encoder as a SavedModel for TF Serving, and the client that asks it.

May import `runs` and what lies below it.
"""
