"""An example of a tinyc plugin: one pass (drop_softmax.py), and one op with the passes around it (squared_relu.py)."""
