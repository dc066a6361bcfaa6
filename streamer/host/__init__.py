"""What the machine offers: microphone, CPU features, memory, the service manager."""
