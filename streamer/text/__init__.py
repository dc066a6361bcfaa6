"""Tokens and text: the tokenizer, languages and their tags, and the detection of repetition loops."""
