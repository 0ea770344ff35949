"""The messages of the API: parsed strictly, as the service does, and written."""
