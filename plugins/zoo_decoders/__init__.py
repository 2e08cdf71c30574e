"""First-party decoder families, one file each, registered like any plugin's."""
