"""A real Jaeger: where it comes from, how it is asked, and what it shows of a conversation (`make test-jaeger`)."""
