"""Recipes of dialogue: conversations, then preferences."""
