"""Where tools come from: Python modules, MCP servers, HTTP services with an OpenAPI document.

`source` says what a source is, `file` how an operator writes them down, `keeper` keeps them running. What is remote
goes through one policy (`remote`, `guard`), whatever it speaks.
"""
