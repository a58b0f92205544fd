"""``genwm serve``: the scanner behind HTTP, with a queue that survives restarts and a page for reviewers.

    config.py     what an operator sets               errors.py     what a caller may be told
    database.py   tables and transactions             scans.py      the queue of scans
    tokens.py     API tokens and browser sessions     decisions.py  the append-only log of what reviewers decided
    uploads.py    request body -> file                paths.py      which server-side paths may be scanned
    runner.py     queue -> pool -> records            webhooks.py   signed notices of finished scans
    models.py     what the API speaks                 api.py, review.py, app.py   HTTP
"""
