"""Recipes for a first hour."""
