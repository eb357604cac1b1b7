"""Servers under load: who asks what and when, ours and others, what an answer costs and adds."""
