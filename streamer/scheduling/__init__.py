"""Sessions on their devices: admission, batches, bounded queues, recordings."""
