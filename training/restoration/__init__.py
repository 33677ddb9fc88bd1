"""Models for pictures of any size, trained on patches of photographs or of pairs of degraded and clean pictures."""
