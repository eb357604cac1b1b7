"""Answers without the engine: the same request again, and what is typed along a suggestion.

A store (memory, or memory before Redis) keeps texts by keys; `responses` and `typeahead` say what
is kept under which key, and when it may be an answer.
"""
