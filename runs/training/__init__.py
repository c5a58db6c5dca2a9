"""The training program: reads spec.json, writes events.jsonl. Knows nothing of Django."""
