"""Tokens and text: the tokenizer, and the detection of repetition loops."""
