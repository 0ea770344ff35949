"""What was said in an utterance: pocketsphinx in its own processes, with a scenario's grammar or for any English.

:class:`emulator.hearing.ears.Ears` is the way in. Nothing is imported here: the recogniser's process starts through
this package and wants none of the server's modules.
"""
