"""Scripts that make every figure the library quotes."""
