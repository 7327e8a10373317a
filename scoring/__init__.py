"""Scores, agreement of raters, figures and attention maps."""
