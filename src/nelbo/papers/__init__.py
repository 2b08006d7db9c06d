"""Rows of papers: published numbers with their protocols, their reproduction, and records of what it gave."""
