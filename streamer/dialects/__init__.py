"""
Protocols of existing clients (Deepgram, OpenAI, Vosk, Wyoming), translated to `captions.v1` and back. All are pure:
`server` carries their frames over sockets.
"""
