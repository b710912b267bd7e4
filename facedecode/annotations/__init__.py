"""Who is in which image, what is said of images, and who takes part."""
