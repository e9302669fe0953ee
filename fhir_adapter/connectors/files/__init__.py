"""A pull from files: a drop folder, one file, or standard input."""
