"""Addresses: one form for all who compare, print or parse them."""
