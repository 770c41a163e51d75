"""Settings of a run as frozen dataclasses, named presets, and how files are written.

Only the standard library may be imported here.
"""
