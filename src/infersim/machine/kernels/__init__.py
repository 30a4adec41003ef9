"""Kernel-time models: seconds of one operation on one device, from its shape, the device's rates and a few parameters.

Nothing here knows an LLM. Each module is one family of kernels: a frozen dataclass of parameters, each with a physical
meaning, and a pure function that broadcasts over arrays of shapes.
"""
