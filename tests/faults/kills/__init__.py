"""A thousand payments under `kill -9` between commit and result: `make test-tools-kills`, some 3 minutes.

Callers have orders refunded (not idempotent) and vouchers sent (idempotent, by the key of the call), one question after
the other, some with two calls at once. Each payment stops when it is committed and before its result is returned
(`tests/support/payments.py`); then, by chance, its tools service is killed, or the worker of its session, or both
(`strikes`), or the link to the model is cut. Links are also told to go away and cut at other moments (`callers`).

In the end (`books`) every call that the model made is answered among what the model knows: by a response on the link
that made it, or in words; one that it made again, because its answer began anew, where it made it last. The answer is
the outcome that the call's claim says. The databases have one row for each call that succeeded, at most one for each of
unknown outcome, and none for any other. An outcome is unknown only where the process that ran the call was killed, and
not more often than there were kills. Beside that everything holds that the stories of tests/faults hold a conversation
to. Prints a summary and exits with 1 when a promise was broken, or when there were fewer kills than wanted. The seed is
printed; it decides who asks what, and which fault comes when, but not how processes race.
"""
