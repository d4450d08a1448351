"""Models of data that can be sampled: autoencoders, adversarial, variational and diffusion models."""
