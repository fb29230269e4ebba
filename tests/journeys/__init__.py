"""The paths of the product from end to end: a real node, real terminals, real browsers; colours and tones."""
