"""OpenAI's paths over HTTP and WebSocket."""
