"""What was said in an utterance: pocketsphinx with a grammar made from the scenario, in a process of its own.

:class:`emulator.hearing.ears.Ears` is the way in. Nothing is imported here: the recogniser's process starts through
this package and wants none of the server's modules.
"""
