"""Agent frameworks, as they come from the registry."""
