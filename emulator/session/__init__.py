"""What outlives a connection or ends it: handles, limits of time, ephemeral tokens."""
