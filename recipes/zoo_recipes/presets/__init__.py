"""Recipe fragments with only trainer settings: hardware, precision, strategy."""
