"""Compression of photographs of any size: an autoencoder of planes whose latent is a grid of symbols."""
