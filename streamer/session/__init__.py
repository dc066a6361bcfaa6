"""One stream as pure state: its window, its words, what is committed, where turns end."""
