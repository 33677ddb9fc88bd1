"""Learned compression: autoencoders whose latents are rounded to integers and entropy-coded."""
