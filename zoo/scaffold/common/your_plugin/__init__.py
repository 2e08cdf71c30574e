"""A plugin of Lightning Zoo."""
