"""The C backend: a module at mem level becomes freestanding C99."""
