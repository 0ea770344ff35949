"""The tools service: knows the functions, checks arguments, runs them. Knows nothing about Gemini."""
