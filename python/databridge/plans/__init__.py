"""FastAPI's routes, compiled to what nginx's module runs without FastAPI.

`spec` is what the module takes; the other modules make it of an application.
"""
