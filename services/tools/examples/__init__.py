"""Tools to copy from; demo and tests use them."""
