"""Decoding algorithms on a deployment: sampling, beam search, many answers, grammars, thinking and drafts, side by side."""
