"""Learned compression: an autoencoder whose latents are rounded to integers that take few bits."""
