"""Models for pictures of any size: trained on patches of whole photographs, or on pairs of bad and good ones."""
