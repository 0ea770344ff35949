"""`parley doctor`: looks at a deployment from outside, and says what to mend.

`checks` asks, `judgement` decides what the answers mean (plain code), `cli` tells.
"""
