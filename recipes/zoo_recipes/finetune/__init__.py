"""Recipes that train a published model on a task."""
