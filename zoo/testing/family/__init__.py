"""What is promised of a family, one small function for each promise."""
