"""Deepgram's live API (`/v1/listen`) as a pure projection of `captions.v1`."""
