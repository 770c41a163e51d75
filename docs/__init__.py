"""The programs that make the tables and charts of these pages from the folders in `results`."""
