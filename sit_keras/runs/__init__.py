"""One run on disk: its folder, files, log, results and images.

May import `data`, `plots` and what lies below them.
"""
