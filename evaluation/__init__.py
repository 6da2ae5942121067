"""Evaluation of trained networks: inference rules, measures, tables and pictures."""
