"""A local Gemini Live server that unmodified SDKs connect to: it listens, thinks by script, speaks, and keeps a record.

It knows nothing of the product that it serves. ``python -m emulator`` runs it; :mod:`emulator.server` embeds it.
"""
