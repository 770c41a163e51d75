"""The command `sit-keras`: each verb reads its flags and calls one workflow.

May import everything, but what takes long to import only inside the functions that run.
"""
