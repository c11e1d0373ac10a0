"""Backends: what becomes of a module at mem level. Importing this registers them and their kernels."""
