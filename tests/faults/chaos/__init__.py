"""Many calls, and faults of every kind at random, for as long as wanted: `make chaos MINUTES=30 SEED=...`.

Callers ask, one question after the other, spoken or typed, while links are closed, reset, hung and told to go away
(`links`), and processes are killed, frozen and replaced (`strikes`). Each call is checked by what the model knows in
the end and by what the caller got, as in the stories of tests/faults (`callers`); a question whose answer was cut off
more than once may be known twice, but every question has one answer. Prints a summary (`report`) and exits with 1 when
a promise was broken, when fewer faults of a kind hit somebody than `--at-least`, or when in a run of full length never
twenty calls were open at once. The seed is printed; it decides who asks what and which fault comes when, but not how
processes race.
"""
