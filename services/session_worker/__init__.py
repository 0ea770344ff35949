"""The session worker: owns the links to Gemini Live, the turn state and the checkpoints of many sessions."""
