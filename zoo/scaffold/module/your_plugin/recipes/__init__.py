"""Recipes, by the names of their files."""
