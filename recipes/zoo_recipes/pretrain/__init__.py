"""Recipes that train a model from scratch on texts."""
