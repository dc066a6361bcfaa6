"""Ended turns as cues and subtitle files, and live captions that roll up."""
