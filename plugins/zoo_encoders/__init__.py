"""First-party encoder families, one file each, registered like any plugin's."""
