"""First-party encoder-decoder families, one file each, registered like any plugin's."""
