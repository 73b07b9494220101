"""One file per command of `emotivetalk`."""
