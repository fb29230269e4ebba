"""One file a schema change, each building on the one before."""
