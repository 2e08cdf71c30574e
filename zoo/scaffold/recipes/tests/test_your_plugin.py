"""The recipes by the zoo's conformance kit."""

from zoo.testing import RecipesConformance


class TestYourPlugin(RecipesConformance):
    recipes = "your-plugin"
