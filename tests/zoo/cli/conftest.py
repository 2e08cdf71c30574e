import zoo.cli.training  # noqa: F401 - logging binds stderr at its import, which no test may capture
