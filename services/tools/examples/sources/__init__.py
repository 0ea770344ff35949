"""Sources to copy: an MCP server, an HTTP service with its OpenAPI document, and the file that names them."""
