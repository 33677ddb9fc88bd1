"""The chapter on autoencoders that this project grew from, reproduced: a section a file, `page.py` puts them together."""
