"""Where z is drawn from when a trained model makes images: its own prior, or what was fitted afterwards."""
