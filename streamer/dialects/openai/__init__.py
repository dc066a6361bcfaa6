"""OpenAI's Realtime and transcription APIs as pure projections of `captions.v1`."""
