"""How steady the shown labels are, and how late a true change is shown: `python -m tools.steadiness`."""
