"""Which model version answers whom: routes with weights, sticky for a person, changed at run time.

`document` says what routes are, `routes` picks by them, `shadow` sends copies whose answers nobody
gets, `discovery` asks a backend what it serves, `book` keeps the document and its changes.
"""
