"""Function calls: arguments that fit their declarations, calls that wait, results."""
