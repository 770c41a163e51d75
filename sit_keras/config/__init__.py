"""Settings of a run as frozen dataclasses, named presets, and their JSON.

Only the standard library may be imported here.
"""
