"""Clients whose authors have never seen the emulator, unmodified apart from base URL and CA."""
