"""Other engines on the same weights: what our own is measured against."""
