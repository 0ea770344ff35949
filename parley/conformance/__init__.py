"""Conformance: does a client, in whatever language, keep to the contract of `Converse`, and does a gateway?

The contract is docs/converse.md. What is decided stands apart from what is done:

- `steps`: what a scripted gateway does and what it sees; the vocabulary of the scripts.
- `caller`: the rules that hold in every check, over everything that a client sends.
- `scene`: the parts that scripts are made of; `client_checks`: the scripts, one a check.
- `gateway_checks`: what is sent to a gateway and how it must answer; a table.
- `scripted_gateway`, `command`, `client_run` and `gateway_run`: sockets and processes.
"""
