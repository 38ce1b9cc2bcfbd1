"""Offline evaluation: tables and arrays in, tables out; knows no model."""
