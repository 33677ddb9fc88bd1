"""Reproduction of a textbook chapter on autoencoders: one section per file, combined by `page.py`."""
