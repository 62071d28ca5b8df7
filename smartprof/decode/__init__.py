"""The reference decoder: batches of requests, draft, verify, keep, measure."""
