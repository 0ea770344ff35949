"""A setup checked against its model's rules."""
