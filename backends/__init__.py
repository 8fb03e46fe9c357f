"""The rooms that touch an array library: NumPy, CuPy, and what plug-ins bring. They know op names, never Tensors."""
