"""Recipes that come with the zoo; each folder is an entry point's, and the first part of their names."""
