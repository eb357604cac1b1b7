"""What several rooms share: machine, options, pictures, ratios, prices, weights, ways to ask.

Knows nothing of the other rooms.
"""
