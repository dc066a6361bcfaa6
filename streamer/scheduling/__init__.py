"""Open sessions on their devices: admission, batching, bounded queues, recordings."""
