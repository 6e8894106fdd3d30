"""The units of what a run measures."""

NATS = "nats per image"
UNITS = {
    **dict.fromkeys(("loss", "elbo", "distortion", "rate"), NATS),
    "bits_per_dim": "bits per dimension of x",
    "accuracy": "of the images with a label",
}
