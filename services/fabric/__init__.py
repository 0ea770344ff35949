"""What gateway, session worker and tools share.

Subjects and streams, the sequence rules of a direction, session records and their fences, errors, settings, telemetry
and the frame of a process. Nothing here knows gRPC streams, Gemini or a tool.
"""
