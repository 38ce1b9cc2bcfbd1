"""Streamlit with the page's libraries loaded before it listens: no visitor waits for them.

python -m ulrec.app.serve run ulrec/app/page.py -- --run runs/quickstart
"""

from __future__ import annotations

from streamlit.web.cli import main

from ulrec.app import catalogue, evidence, for_user, loading, space

PARTS = (catalogue, evidence, for_user, loading, space)

if __name__ == "__main__":
    main(prog_name="streamlit")
