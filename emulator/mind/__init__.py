"""What the model does: turns, what it says, what it remembers and what that costs. No I/O."""
