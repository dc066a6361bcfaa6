"""Tokens and text: tokenizer, languages and their tags, joining of texts, and detection of repetition loops."""
