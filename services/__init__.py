"""The services: gateway, session_worker, tools, and the fabric they share."""
