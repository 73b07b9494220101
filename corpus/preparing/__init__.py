"""Preparation of clips from real video, one file at a time; `actors/preparing/` runs it on many files."""
