"""Measurements of what dropout and training cost, here and in other libraries."""
